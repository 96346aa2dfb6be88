"""What was answered 201 is a row, on a Redis set up by `deploy/redis-users.acl` as it is shipped.

No byte of the file is altered: its placeholders are the passwords. On the embedded Valkey and on an
installed Redis, each with its append-only file and restarted under the accounts.
"""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import hiredis
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError

from bench.load.client import connect
from bench.load.people import Plan
from bench.load.reconcile import settle
from bench.load.request_builder import TokenSigner
from bench.load.sender import Sender
from bench.load.sent_log import SentLog
from contract import keys, settings
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_redis
from runtime.redis_replay import SALT_WRITES, STREAM_WRITES
from salt.store import SaltStore
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.instant import UTC
from tests.servers import Flavour
from tests.system import (
    JWT_KEY,
    ROOT,
    Program,
    System,
    eventually,
    run_command,
    run_successfully,
)

ACL = ROOT / "deploy/redis-users.acl"
_SITES = ("a.example.org", "b.example.org")
# So many at once that records share entries, which are written by MULTI and EXEC.
_CONNECTIONS = 200
_VISITS, _MORE_VISITS = 400, 1000
_REFUSED = r"(?i)permission|NOPERM|can't run|not allowed"
_SHARDS = range(settings.STREAM_SHARDS.read({}))


def url(valkey: ValkeyServer, module: str) -> str:
    """A process's URL, with its account and the password that stands in the file."""
    account = f"impact-{module}:{module.upper()}_PASSWORD"
    return f"redis://{account}@127.0.0.1:{valkey.port}/0"


@dataclass
class Deployed:
    """A Redis with the shipped accounts, and a system whose processes use them."""

    valkey: ValkeyServer
    system: System
    flusher_redis: Redis

    async def start(self, *modules: str) -> list[Program]:
        programs = [
            self.system.program(module, REDIS_URL=url(self.valkey, module)).start()
            for module in modules
        ]
        await asyncio.gather(*(program.ready() for program in programs))
        return programs

    async def restart(self) -> None:
        """Ends the server cleanly, and starts it on its files."""
        await asyncio.to_thread(self.valkey.restart)
        await self.flusher_redis.connection_pool.disconnect()

    async def entries(self) -> int:
        return sum([int(await self.flusher_redis.xlen(keys.stream(shard))) for shard in _SHARDS])

    async def joined(self) -> int:
        """How many more records than entries wait."""
        found = [await self.flusher_redis.get(keys.joined(shard)) for shard in _SHARDS]
        return sum(int(more or 0) for more in found)

    async def pending(self) -> int:
        pending: list[Any] = [
            await self.flusher_redis.xpending(keys.stream(shard), keys.GROUP) for shard in _SHARDS
        ]
        return sum(int(of_shard["pending"]) for of_shard in pending)

    async def load(self, visits: int = _VISITS) -> SentLog:
        """Sends visits, as many at once as there are connections; what was answered to them."""
        plan = Plan(_SITES, visits, upgraded_percent=20)
        with connect(self.system.url, _CONNECTIONS) as connections:
            sender = Sender(connections, plan, TokenSigner({"JWT_KEY": JWT_KEY}))
            await sender.run()
        assert not [status for status in sender.tally.statuses if status >= 500]
        return sender.sent_log

    async def is_exact(self, sent_log: SentLog) -> None:
        """Waits for the flushers, until no row can come any more; every answer has its row, and no
        row is without its answer.
        """
        await eventually(self.entries, lambda count: count == 0)
        dsn = self.system.database_url
        differences = await settle(sent_log, dsn, UTC, 60, aftermath_seconds=0)
        assert differences.exact, f"{differences.reasons} {differences.examples}"
        assert differences.found > _VISITS / 2


def server(flavour: Flavour, folder: Path, acl: Path, **config: str) -> ValkeyServer:
    """A Redis with a users' file, not started yet; the operator looks whether it is up."""
    return ValkeyServer(
        folder,
        binary=flavour.redis_binary,
        # A replica's copy begins at once; else it waits five seconds for others.
        config={"aclfile": shlex.quote(str(acl)), "repl-diskless-sync-delay": "0", **config},
    )


@asynccontextmanager
async def deploy(valkey: ValkeyServer, dsn: str, folder: Path) -> AsyncIterator[Deployed]:
    """A system on a server that runs."""
    client = connect_redis(url(valkey, "flusher"))
    with System(valkey.url, dsn, folder / "logs", {"FLUSH_CLAIM_SECONDS": "1"}) as system:
        yield Deployed(valkey, system, client)
    await client.aclose()


@pytest.fixture
def valkey(flavour: Flavour, tmp_path: Path) -> Iterator[ValkeyServer]:
    with server(flavour, tmp_path / "valkey", ACL) as started:
        yield started


@pytest.fixture
async def deployed(valkey: ValkeyServer, dsn: str, tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deploy(valkey, dsn, tmp_path) as deployed:
        yield deployed


@asynccontextmanager
async def logged_in(valkey: ValkeyServer, name: str) -> AsyncIterator[Redis]:
    client = connect_redis(url(valkey, name))
    yield client
    await client.aclose()


async def ask(redis: Redis, *command: Any) -> Any:
    return await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # as in all of redis-py


async def test_a_restart_of_redis_loses_nothing_and_repeats_nothing(deployed: Deployed) -> None:
    """First with the flushers stopped, so that all that was answered 201 is in the streams alone.

    There, entries are also pending for no consumer, as after a restart that dropped what a group
    had delivered. Then with a flusher: what was acknowledged does not come again.
    """
    await deployed.start("rotation", "collector")
    sent_log = await deployed.load(_MORE_VISITS)
    assert await deployed.joined() > 100, "records share entries"
    for shard in _SHARDS:
        stream = keys.stream(shard)
        await ask(deployed.flusher_redis, "XGROUP", "CREATE", stream, keys.GROUP, "0")
        await deployed.flusher_redis.xreadgroup(keys.GROUP, "gone", {stream: ">"}, 10_000)
        await deployed.flusher_redis.xgroup_delconsumer(stream, keys.GROUP, "gone")
    assert (await deployed.entries() > 0, await deployed.pending()) == (True, 0)
    await deployed.restart()
    (flusher,) = await deployed.start("flusher")
    await deployed.is_exact(sent_log)
    assert "belonged to no flusher" in flusher.log
    assert "the month's salt was lost" not in deployed.system.logs

    async def duplicates() -> float:
        return (await flusher.metrics())['impact_duplicate_total{kind="session"}']

    repeated = [await duplicates()]
    for _ in range(2):
        await deployed.is_exact(await deployed.load())
        repeated.append(await duplicates())
        await deployed.restart()
        assert (await deployed.entries(), await deployed.pending()) == (0, 0)
    # Some visits are sent twice by their front-ends: each time as many.
    assert repeated[2] - repeated[1] == repeated[1] - repeated[0]


async def test_every_command_of_a_transaction_is_among_those_that_are_checked(
    deployed: Deployed,
) -> None:
    """Otherwise a collector would accept a server that drops one of them at a restart."""
    await deployed.start("rotation", "collector", "flusher")
    await deployed.is_exact(await deployed.load())
    async with logged_in(deployed.valkey, "collector") as collector:
        await collector.xadd(keys.stream(0), {b"e": b"no record"})
    environment = {"REDIS_URL": url(deployed.valkey, "flusher")}

    async def letters() -> list[str]:
        _, output, _ = await run_command(
            "flusher", "dead", "list", **deployed.system.environment | environment
        )
        return output.splitlines()[1:]

    assert len(await eventually(letters)) == 1
    await eventually(deployed.entries, lambda count: count == 0)
    found = _in_transactions(deployed.valkey)
    async with logged_in(deployed.valkey, "rotation") as rotation:
        await SaltStore(rotation, UTC).ensure(replace=True)

    async def found_now() -> set[tuple[bytes, ...]]:
        return _in_transactions(deployed.valkey)

    found |= await eventually(found_now, lambda some: (b"SETRANGE", b"impact:{salt}") in some)
    environment = {"REDIS_URL": url(deployed.valkey, "rotation")}
    await run_successfully("rotation", "rotate", **environment)
    found |= _in_transactions(deployed.valkey)
    assert {(b"XDEL", b"impact:sessions"), (b"INCRBY", b"impact:joined")} <= found
    assert found <= {_named(map(_bytes, command)) for command in (*STREAM_WRITES, *SALT_WRITES)}


def _in_transactions(valkey: ValkeyServer) -> set[tuple[bytes, ...]]:
    """The commands between MULTI and EXEC in the append-only file, by their key's kind."""
    found, inside = set(), False
    reader = hiredis.Reader()
    for path in sorted(valkey.data_dir.rglob("*.incr.aof")):
        reader.feed(path.read_bytes())
    while command := reader.gets():
        if command[0].upper() in {b"MULTI", b"EXEC"}:
            inside = command[0].upper() == b"MULTI"
        elif inside:
            found.add(_named(command))
    return found


def _named(words: Any) -> tuple[bytes, ...]:
    """`XGROUP CREATE impact:sessions`: a command and what it names, without the number."""
    command, *rest = words
    key = next((word for word in rest if word.startswith(b"impact:")), b"")
    kind = b":".join(key.split(b":")[:2])
    return (command.upper(), *(rest[:1] if command.upper() == b"XGROUP" else ()), kind)


def _bytes(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


async def test_a_collector_accepts_nothing_that_a_restart_would_drop(
    flavour: Flavour, dsn: str, tmp_path: Path
) -> None:
    """Not ready, an error in the log, and 503, until the users' file is mended and loaded."""
    acl = tmp_path / "users.acl"
    shipped = ACL.read_text()
    acl.write_text(shipped.replace("user default off resetpass ~* &* +@all", "user default off"))
    assert acl.read_text() != shipped
    with server(flavour, tmp_path / "valkey", acl) as valkey:
        async with (
            deploy(valkey, dsn, tmp_path) as deployed,
            aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as http,
            logged_in(valkey, "operator") as operator,
        ):
            await deployed.start("rotation")
            collector = deployed.system.program("collector", REDIS_URL=url(valkey, "collector"))
            collector.start()
            if "valkey_version" in await operator.info("server"):
                await collector.ready()  # this one replays all of it, whatever the rights
                return
            _, page = await eventually(
                collector.readyz, lambda found: [*found[1].get("failed", ())] == ["restart"]
            )
            assert "a restart of Redis would lose sessions" in page["failed"]["restart"]
            before = await deployed.entries()
            async with http.post(deployed.system.url + SESSIONS) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            metrics = await collector.metrics()
            assert metrics['impact_failed_total{reason="redis_forgets"}'] == 1
            assert await deployed.entries() == before
            assert "no session is accepted" in collector.log
            assert "ACL LOAD" in collector.log
            acl.write_text(shipped)
            await ask(operator, "ACL", "LOAD")
            await collector.ready()
            async with http.post(deployed.system.url + SESSIONS) as answer:
                assert answer.status == 201
            assert "sessions are accepted again" in collector.log


async def test_a_setting_that_an_account_may_not_read_is_warned_of_once(
    flavour: Flavour, dsn: str, tmp_path: Path
) -> None:
    """And sessions are accepted: a managed server may refuse the question."""
    acl = tmp_path / "users.acl"
    acl.write_text(ACL.read_text().replace(" +acl|dryrun", ""))
    with server(flavour, tmp_path / "valkey", acl) as valkey:
        async with deploy(valkey, dsn, tmp_path) as deployed, logged_in(valkey, "operator") as op:
            asks = "valkey_version" not in await op.info("server")
            (collector,) = await deployed.start("collector")

            async def unverified() -> list[str]:
                lines = collector.log.splitlines()
                return [line for line in lines if "could not be verified" in line]

            lines = await eventually(unverified, lambda found: len(found) == 1 + asks)
            assert ["user default" in line for line in lines] == [False, True][: 1 + asks]


async def test_the_operators_account_may_do_what_the_handbook_says(valkey: ValkeyServer) -> None:
    """No client logs in as `default`, whose rights are for the replay of a file."""
    for account in ("", "default:@", "default:x@", ":x@"):
        client = connect_redis(f"redis://{account}127.0.0.1:{valkey.port}/0")
        with pytest.raises(AuthenticationError):
            await client.ping()
        await client.aclose()
    async with logged_in(valkey, "collector") as collector:
        await collector.xadd(keys.stream(0), {b"e": b"record"})
    async with logged_in(valkey, "flusher") as flusher:
        await flusher.xgroup_create(keys.stream(0), keys.GROUP, "0")
    handbook = (ROOT / "docs/operations.md").read_text()
    commands = [
        shlex.split(line) for line in re.findall(r"^impact redis-cli (.*)$", handbook, re.MULTILINE)
    ]
    # And what log lines and `rotation status` tell an operator to do.
    more = (
        ("CONFIG", "SET", "maxmemory-policy", "noeviction"),
        ("CONFIG", "SET", "appendonly", "yes"),
        ("CONFIG", "SET", "appendfsync", "everysec"),
        ("SET", keys.SCRUB, bytes(1 << 20)),
        ("DEL", keys.SCRUB),
        ("ACL", "DRYRUN", "default", "XADD", keys.stream(0), "*", "e", ""),
        ("INFO",),
        ("ROLE",),
        ("XLEN", keys.stream(0)),
        ("XINFO", "STREAM", keys.stream(0)),
    )
    assert len(commands) >= 8
    async with logged_in(valkey, "operator") as operator:
        for command in (*commands, *more):
            await eventually(partial(_is_idle, operator))
            await ask(operator, *command)
            if command[:2] == ["ACL", "LOAD"]:  # closes the connections of all users
                await operator.connection_pool.disconnect()


async def test_an_account_may_do_nothing_but_its_work(valkey: ValkeyServer) -> None:
    """None but the operator's reaches the server's settings, not by a script or a transaction,
    either: `masterauth` is the replicas' password.
    """
    not_streams = [("XRANGE", keys.stream(0), "-", "+"), ("DEL", keys.stream(0))]
    read_salt = [("GET", keys.CURRENT_SALT)]
    nobodys: list[tuple[Any, ...]] = [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "impact-operator", "+@all"),
        ("MONITOR",),
        ("REPLICAOF", "NO", "ONE"),
        ("SLOWLOG", "GET"),
    ]
    only_the_operators: list[tuple[Any, ...]] = [
        ("CONFIG", "SET", "appendonly", "no"),
        ("CONFIG", "GET", "masterauth"),
        ("CONFIG", "REWRITE"),
        ("DEBUG", "HELP"),
        ("EVAL", "return redis.call('CONFIG', 'GET', 'masterauth')", 0),
        ("FUNCTION", "LOAD", "#!lua name=own\n"),
        ("SHUTDOWN",),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("SET", "another", "key"),
    ]
    replicas = [*read_salt, ("XLEN", keys.stream(0)), ("INFO",), ("SYNC",), *only_the_operators]
    for module, its in {
        "collector": [*not_streams, *only_the_operators],
        "rotation": [*not_streams, *only_the_operators],
        "flusher": [*read_salt, ("DEL", keys.stream(0)), *only_the_operators],
        "operator": [*read_salt, *not_streams],
        "replica": replicas,
    }.items():
        async with logged_in(valkey, module) as client:
            for command in [*its, *nobodys]:
                with pytest.raises(ResponseError, match=_REFUSED):
                    await ask(client, *command)


async def test_a_replica_follows_with_its_account(
    flavour: Flavour, valkey: ValkeyServer, tmp_path: Path
) -> None:
    async with logged_in(valkey, "collector") as collector:
        await collector.xadd(keys.stream(0), {b"e": b"record"})
    replica = server(
        flavour,
        tmp_path / "replica",
        ACL,
        replicaof=f"127.0.0.1 {valkey.port}",
        masteruser="impact-replica",
        masterauth="REPLICA_PASSWORD",
    )
    with replica:
        async with logged_in(replica, "operator") as operator:
            await eventually(partial(operator.xlen, keys.stream(0)), lambda length: length == 1)
            # Redis 7.0 does not stop before it has a first file of its own.
            await eventually(partial(_is_idle, operator))


async def _is_idle(redis: Redis) -> bool:
    """Whether no file is being written in the background, nor to be."""
    info = await redis.info("persistence")
    names = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
    return not any(info[name] for name in names)
