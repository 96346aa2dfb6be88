"""A destroyed salt is nowhere that can be reached: every byte of the servers' files and memory is
searched.
"""

import json
import secrets
import shlex
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from contract import keys
from contract.calendar import Month
from contract.errors import Retry
from contract.identity import SALT_BYTES
from embedded.cluster import Cluster
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_peer, connect_redis
from salt.client import SaltServer, connect_salt
from salt.disposal import SaltDisposal
from salt.report import Report, State
from salt.store import SaltStore
from salt.term import Outcome, Salt
from tests.handbook import blocks
from tests.instant import UTC
from tests.leftovers import files_with
from tests.memory import needs_memory, pieces
from tests.servers import EMBEDDED, Flavour, flavours
from tests.system import System, eventually, run_command, run_successfully, until
from tests.unit.steady import Pauses

EARLIER = Month(2020, 1)
# Both kinds of files, and replicas that are copied to at once.
CONFIG = {"appendonly": "yes", "save": "3600 1", "repl-diskless-sync-delay": "0"}
A_SLOW_LOG_OF_ALL = {"slowlog-log-slower-than": "0"}


async def is_idle(redis: Redis) -> bool:
    """Whether no file is being written in the background."""
    info: dict[str, Any] = await redis.info("persistence")
    return not (
        info["rdb_bgsave_in_progress"]
        or info["aof_rewrite_in_progress"]
        or info["aof_rewrite_scheduled"]
    )


async def slow_log_has(redis: Redis, salt: bytes) -> bool:
    return any(salt in bytes(entry["command"]) for entry in await redis.slowlog_get(1000))


async def _dispose(disposal: SaltDisposal) -> Report:
    due_since = await disposal.due_since()
    assert due_since is not None
    report = await disposal.dispose(due_since)
    states = {place.state for place in report.places}
    assert states <= {State.CLEAN, State.OFF, State.REFUSED}, report
    return report


class Salts:
    """A server, and what makes and disposes of its salts."""

    def __init__(self, flavour: Flavour, folder: Path, stack: ExitStack, **config: str) -> None:
        self._binary, self._folder, self._stack = flavour.redis_binary, folder, stack
        self._config = CONFIG | config
        self.server = self._start("primary")
        self.redis: Redis = connect_redis(self.server.url)
        self.store = SaltStore(self.redis, UTC)
        connect_to = partial(connect_peer, self.server.url)
        server = SaltServer(self.redis, is_streams=True, connect_to=connect_to)
        self.disposal = SaltDisposal(server, self.store)

    def start_replica(self) -> ValkeyServer:
        return self._start("replica", replicaof=f"127.0.0.1 {self.server.port}")

    def _start(self, name: str, **config: str) -> ValkeyServer:
        server = ValkeyServer(
            self._folder / name, binary=self._binary, config=self._config | config
        )
        return self._stack.enter_context(server)

    async def dispose(self) -> None:
        report = await _dispose(self.disposal)
        assert not report.refused, report


class Earlier(Salts):
    """With an earlier month's salt in force."""

    old = secrets.token_bytes(SALT_BYTES)

    async def begin(self) -> None:
        """As the script left it in an earlier month, and as time spread it over the files."""
        await self.redis.setrange(keys.salt(EARLIER), 0, self.old)
        await self.redis.set(keys.CURRENT_SALT, str(EARLIER))
        await self.redis.bgsave()
        await eventually(lambda: is_idle(self.redis))
        await self.redis.bgrewriteaof()
        await eventually(lambda: is_idle(self.redis))
        await self.redis.setrange(keys.salt(EARLIER), 0, self.old)  # in the incremental file, too

    async def rotate(self) -> None:
        ensured = await self.store.ensure()
        assert ensured.outcome is Outcome.ROTATED


@pytest.fixture
async def salts(flavour: Flavour, tmp_path: Path, stack: ExitStack) -> AsyncIterator[Earlier]:
    salts = Earlier(flavour, tmp_path, stack, **A_SLOW_LOG_OF_ALL)
    yield salts
    await salts.redis.aclose()


async def test_no_byte_of_the_old_salt_is_left_in_any_file_of_a_server_and_its_replica(
    salts: Earlier,
) -> None:
    """The primary's rewriting does not touch the files of the replica."""
    await salts.begin()
    before = files_with(salts.old, salts.server)
    assert {Path(name).suffix for name in before} == {".rdb", ".aof"}, before
    assert await slow_log_has(salts.redis, salts.old)
    replica = salts.start_replica()
    copy = connect_redis(replica.url)
    await eventually(lambda: copy.get(keys.salt(EARLIER)), lambda salt: salt == salts.old)
    await eventually(lambda: is_idle(copy))
    await copy.bgrewriteaof()
    await until(lambda: files_with(salts.old, replica))

    await salts.rotate()
    assert files_with(salts.old, salts.server), "the files outlive the key"
    await salts.dispose()
    await until(lambda: not files_with(salts.old, salts.server, replica))
    assert await copy.get(keys.salt(EARLIER)) is None
    for redis in (salts.redis, copy):
        assert not await slow_log_has(redis, salts.old)
    assert await salts.disposal.due_since() is None
    assert await salts.store.salt_keys() == [keys.salt(await salts.store.server_month())]
    await copy.aclose()


async def test_a_replica_that_is_away_is_named_until_it_is_clean(
    salts: Earlier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.redis_client.COMMAND_SECONDS", 1.0)
    await salts.begin()
    replica = salts.start_replica()
    await eventually(salts.redis.role, lambda role: len(role[2]) == 1)
    replica.freeze()
    await salts.rotate()
    due_since = await salts.disposal.due_since()
    assert due_since is not None
    report = await salts.disposal.dispose(due_since)
    assert {place.server for place in report.failed} == {f"127.0.0.1:{replica.port}"}
    assert await salts.disposal.due_since() == due_since, "it will be tried again"
    replica.thaw()
    # On a busy machine it may be too slow for the second of this test: then it is tried again.
    await eventually(lambda: salts.disposal.dispose(due_since), lambda report: not report.failed)
    assert await salts.disposal.due_since() is None


async def test_a_file_that_can_not_be_written_is_named_with_a_reason_until_it_is(
    salts: Earlier,
) -> None:
    await salts.begin()
    await salts.rotate()
    due_since = await salts.disposal.due_since()
    assert due_since is not None
    await salts.redis.config_set("save", "")  # as we deploy it: a failed save stops no writes
    file = salts.server.data_dir / "dump.rdb"
    file.unlink()
    file.mkdir()  # nothing can take its place
    (failed,) = (await salts.disposal.dispose(due_since)).failed
    assert failed.place == "RDB file"
    assert "see its log" in failed.to_do
    file.rmdir()
    await salts.dispose()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_crash_between_rotation_and_disposal_does_not_lose_the_disposal(
    salts: Earlier, end: str
) -> None:
    await salts.begin()
    await salts.rotate()
    await salts.redis.aclose()
    if end == "kill":
        # What the script wrote is in the append-only file by then, or the whole step is not.
        await until(lambda: b"disposal_due" in _append_only(salts.server))
        salts.server.kill()
        salts.server.start()
    else:
        salts.server.restart()
    assert files_with(salts.old, salts.server)
    await salts.dispose()
    await until(lambda: not files_with(salts.old, salts.server))


async def test_a_collector_disposes_of_a_salt_if_rotation_is_late_and_not_before(
    salts: Earlier,
) -> None:
    """Rotation has twenty seconds to do it. A collector looks every ten."""
    await salts.begin()
    await salts.rotate()
    pauses = Pauses(4)
    await salts.disposal.run(pauses)
    assert pauses.seconds == [10.0] * 4
    assert await salts.disposal.due_since() is not None
    assert files_with(salts.old, salts.server)

    await salts.redis.decrby(keys.DISPOSAL_DUE, 20_000)  # milliseconds
    await salts.disposal.run(Pauses(1))
    assert await salts.disposal.due_since() is not None, "a rotation may just be starting"
    with capture_logs() as lines:
        await salts.disposal.run(Pauses(3))
    assert await salts.disposal.due_since() is None
    await until(lambda: not files_with(salts.old, salts.server))
    assert not await slow_log_has(salts.redis, salts.old)
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "rotation has not removed a destroyed salt: this process does it"),
        ("info", "no earlier salt is left"),
    ]


async def test_what_a_server_refuses_is_said_with_what_an_operator_has_to_do(
    salts: Earlier, tmp_path: Path
) -> None:
    """As on a managed server: in the log, the exit code, `status` and a metric."""
    await salts.begin()
    await salts.redis.acl_setuser(
        "tenant",
        enabled=True,
        passwords="+secret",
        keys=["impact:*"],
        categories=["+@all"],
        commands=["-bgrewriteaof", "-bgsave", "-slowlog"],
    )
    url = salts.server.url.replace("redis://", "redis://tenant:secret@")
    environment = {"REDIS_URL": url}
    code, output, errors = await run_command("rotation", "rotate", **environment)
    assert code == 1, errors
    assert "An earlier salt may be left" in output
    for to_do in ("BGREWRITEAOF", "BGSAVE", "SLOWLOG RESET"):
        assert f"run {to_do} there: it refuses us (NOPERM " in errors
    output = await run_successfully("rotation", "status", **environment)
    assert output.count("NOT VERIFIED") == 3
    code, output, _ = await run_command("rotation", "status", "--json", **environment)
    places = json.loads(output)["last_disposal"]["places"]
    assert {place["place"] for place in places if place["state"] == "refused"} == {
        "append-only file",
        "RDB file",
        "slow log",
    }
    assert salts.old.hex() not in output + errors

    # A rotation that runs has it in its metric, and again once an operator has let us in.
    with System(url, "", tmp_path / "logs") as system:
        (rotation,) = await system.start("rotation")
        assert (await rotation.metrics())["impact_disposal_unverified"] == 3
        code, output, _ = await run_command("rotation", "rotate", **environment)
        assert (code, "nothing to do" in output) == (1, True), "it is still refused"
        await salts.redis.acl_setuser(
            "tenant", enabled=True, commands=["+bgrewriteaof", "+bgsave", "+slowlog"]
        )
        await run_successfully("rotation", "rotate", **environment)
        await eventually(rotation.metrics, lambda told: told["impact_disposal_unverified"] == 0)


async def test_a_replaced_salt_is_disposed_of_too(salts: Earlier) -> None:
    """It was leaked: that is why it was replaced."""
    first = await salts.store.ensure()
    salt = (await salts.store.observe(first.term.month)).salt
    assert salt is not None
    # In a buffer: one that is embedded in its key's object would be copied elsewhere by SETRANGE.
    assert await salts.redis.object("encoding", keys.salt(salt.month)) == b"raw"
    leaked = salt.value
    await salts.redis.bgsave()
    await until(lambda: files_with(leaked, salts.server))
    environment = {"REDIS_URL": salts.server.url}
    code, output, errors = await run_command("rotation", "rotate", "--force", **environment)
    assert (code, "count twice" in output) == (0, True), errors
    await until(lambda: not files_with(leaked, salts.server))
    assert not await slow_log_has(salts.redis, leaked)


async def test_a_server_that_had_the_salt_before_it_moved_forgets_it_as_the_handbook_says(
    salts: Earlier, tmp_path: Path
) -> None:
    """Nothing else does: the new server never learns of the former one."""
    first = await salts.store.ensure()
    salt = (await salts.store.observe(first.term.month)).salt
    assert salt is not None
    (command,) = [
        each for each in blocks("Changing things while it runs", "sh") if "rotate" in each
    ]
    unset, *words = shlex.split(command)
    with ValkeyServer(tmp_path / "new") as new:
        async with connect_redis(new.url) as redis:
            environment = {"REDIS_URL": salts.server.url, "SALT_REDIS_URL": new.url}
            await run_successfully("rotation", "rotate", **environment)
            in_force = await redis.get(keys.salt(salt.month))
            assert files_with(salt.value, salts.server)
            await run_successfully(*words[2:], **environment | dict([unset.split("=")]))
            assert await redis.get(keys.salt(salt.month)) == in_force
    await until(lambda: not files_with(salt.value, salts.server))


def _append_only(server: ValkeyServer) -> bytes:
    return b"".join(path.read_bytes() for path in server.data_dir.rglob("*.aof"))


class InForce(Salts):
    """With a salt in force that has been asked for again and again, and a replica."""

    salt = Salt(Month(2000, 1), 0, 0, bytes(32))

    async def begin(self) -> None:
        self.replica = self.start_replica()
        async with connect_redis(self.replica.url) as copy:

            async def follows() -> bool:
                info = await copy.info("replication")
                return bool(info["master_link_status"] == "up")

            await eventually(follows)
            # It writes its files anew when it has copied all.
            await eventually(lambda: is_idle(copy))
        for _ in range(3):
            await self.store.ensure()
        month = (await self.store.ensure()).term.month
        salt = (await self.store.observe(month)).salt
        assert salt is not None
        self.salt = salt
        for _ in range(3):
            await self.store.observe(salt.month)
            await self.traffic()

    async def traffic(self) -> None:
        """As of sessions, on connections of their own."""
        async with connect_redis(self.server.url) as redis:
            for _ in range(100):
                await redis.xadd(keys.stream(0), {"entry": bytes(150)})
            await redis.xtrim(keys.stream(0), 10, approximate=False)

    async def left(self) -> Counter[str]:
        salt = self.salt.value
        return pieces(salt, self.server.pid) + pieces(salt, self.replica.pid)


# Redis in `make test-long`, because its allocator is less easily foreseen (docs/decisions/0019).
_FLAVOURS = [
    pytest.param(
        each,
        id=each.name,
        marks=[needs_memory] if each is EMBEDDED else [needs_memory, pytest.mark.long],
    )
    for each in flavours()
]


@pytest.fixture(params=_FLAVOURS)
async def in_force(
    request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack
) -> AsyncIterator[InForce]:
    in_force = InForce(request.param, tmp_path, stack)
    await in_force.begin()
    yield in_force
    await in_force.redis.aclose()


class OneAfterTheOther(ConnectionPool):
    """Never gives the same connection twice in a row, as when several tasks share a client."""

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        take: Any = super().get_connection
        last, connection = await take(), await take()
        await self.release(last)
        return connection


@pytest.mark.parametrize(
    "in_force", [pytest.param(EMBEDDED, id=EMBEDDED.name, marks=needs_memory)], indirect=True
)
async def test_no_connections_buffer_keeps_the_salt_that_was_read(in_force: InForce) -> None:
    """A connection that is then idle until it is closed would leave the salt in freed memory.

    Only with Valkey: Redis may have a copy in its freed backlog until a disposal.
    """
    async with Redis.from_pool(OneAfterTheOther.from_url(in_force.server.url)) as redis:
        store = SaltStore(redis, UTC)
        assert (await store.observe(in_force.salt.month)).salt == in_force.salt
        await store.push_out()
        found = pieces(in_force.salt.value, in_force.server.pid)
    assert found["raw 0"] == 1, "only the key's value"


@pytest.mark.parametrize("end", ["expired", "replaced"])
async def test_nothing_is_left_of_one_that_is_over(in_force: InForce, end: str) -> None:
    """Expired, as at each month's end: it is gone before anybody could have written over it. Or
    replaced, as by `rotate --force`.
    """
    assert await in_force.left()
    if end == "expired":
        key = keys.salt(in_force.salt.month)
        await in_force.redis.pexpire(key, 100)
        await eventually(lambda: in_force.redis.exists(key), lambda there: not there)
    await in_force.traffic()
    made = await in_force.store.ensure(replace=end == "replaced")
    assert made.outcome is (Outcome.LOST if end == "expired" else Outcome.REPLACED)
    await in_force.dispose()
    await eventually(in_force.left, lambda left: not left)


async def test_nor_where_the_server_was_restarted_meanwhile(in_force: InForce) -> None:
    """It has the salt from its files then."""
    in_force.replica.stop()  # it would copy all of it anew: docs/privacy.md
    await in_force.redis.aclose()
    in_force.server.restart()

    async def left() -> Counter[str]:
        return pieces(in_force.salt.value, in_force.server.pid)

    assert await left()
    await in_force.store.observe(in_force.salt.month)
    await in_force.store.ensure(replace=True)
    await in_force.dispose()
    await eventually(left, lambda left: not left)


@pytest.fixture
async def in_cluster(tmp_path: Path) -> AsyncIterator[tuple[Cluster, SaltServer]]:
    with Cluster(tmp_path) as cluster:
        await cluster.form()
        async with connect_salt({"REDIS_URL": cluster.url, "REDIS_CLUSTER": "1"}) as server:
            yield cluster, server


@pytest.mark.long
async def test_a_salt_is_gone_from_all_of_a_cluster_who_ever_had_it(
    in_cluster: tuple[Cluster, SaltServer],
) -> None:
    """Also where its slot was before, and where a failover left it."""
    cluster, server = in_cluster
    store = SaltStore(server.redis, UTC)
    disposal = SaltDisposal(server, store)
    old = secrets.token_bytes(SALT_BYTES)
    await server.redis.setrange(keys.salt(EARLIER), 0, old)
    await server.redis.set(keys.CURRENT_SALT, str(EARLIER))
    await disposal.holders.note()
    # Its slot moves, the node that has it now dies, and its replica takes over.
    first = cluster.primary_of(keys.CURRENT_SALT)
    second = next(server for server in cluster.servers[:3] if server is not first)
    cluster.move(keys.CURRENT_SALT, second)
    await _patiently(disposal.holders.note)
    await until(lambda: len(_holders(cluster, old)) == 4)
    second.kill()
    await cluster.fails_over(second)
    await _patiently(disposal.holders.note)

    await _patiently(store.ensure)
    report = await _dispose(disposal)
    dead = f"127.0.0.1:{second.port}"
    assert [(p.server, p.place) for p in report.refused] == [(dead, "server")], report
    assert "if it is gone for good" in report.refused[0].to_do
    assert _holders(cluster, old) == [second]

    second.start()
    await cluster.follows(second)
    again = SaltDisposal(server, store)  # as a minute later
    await again.holders.note()
    report = await _dispose(again)
    assert not report.refused, report
    assert _holders(cluster, old) == []


def _holders(cluster: Cluster, salt: bytes) -> list[ValkeyServer]:
    return [server for server in cluster.servers if files_with(salt, server)]


async def _patiently(do: Any) -> None:
    """As the worker does it: what fails is tried again."""

    async def done() -> bool:
        try:
            await do()
        except (Retry, RedisError):
            return False
        return True

    await eventually(done)
