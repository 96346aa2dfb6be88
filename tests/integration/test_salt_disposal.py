"""A destroyed salt is nowhere that can be reached: every byte of the servers' files is searched."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import Month
from contract.identity import SALT_BYTES
from embedded.valkey import ValkeyServer
from runtime.redis_client import connect_peer, connect_redis
from salt.client import SaltServer
from salt.disposal import SaltDisposal
from salt.report import State
from salt.store import SaltStore
from salt.term import Outcome
from tests.leftovers import files_with
from tests.servers import Flavour
from tests.system import System, eventually, run_command

UTC = ZoneInfo("UTC")
EARLIER = Month(2020, 1)
# Both kinds of files, a slow log that keeps every command, and replicas that are copied to at once.
CONFIG = {
    "appendonly": "yes",
    "save": "3600 1",
    "slowlog-log-slower-than": "0",
    "repl-diskless-sync-delay": "0",
}


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


class Salts:
    """A server with an earlier month's salt in force, and what tends it."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.redis: Redis = connect_redis(server.url)
        self.store = SaltStore(self.redis, UTC)
        self.disposal = SaltDisposal(
            SaltServer(self.redis, is_streams=True, connect_to=partial(connect_peer, server.url)),
            self.store,
        )
        self.old = secrets.token_bytes(SALT_BYTES)

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

    async def dispose(self) -> None:
        due_since = await self.disposal.due_since()
        assert due_since is not None
        report = await self.disposal.dispose(due_since)
        assert {place.state for place in report.places} <= {State.CLEAN, State.OFF}, report


@pytest.fixture
async def salts(flavour: Flavour, tmp_path: Path, stack: ExitStack) -> AsyncIterator[Salts]:
    server = ValkeyServer(tmp_path / "primary", binary=flavour.redis_binary, config=CONFIG)
    salts = Salts(stack.enter_context(server))
    yield salts
    await salts.redis.aclose()


async def test_no_byte_of_the_old_salt_is_left_in_any_file_of_a_server_and_its_replica(
    salts: Salts, flavour: Flavour, tmp_path: Path, stack: ExitStack
) -> None:
    """The primary's rewriting does not touch the files of the replica."""
    config = {**CONFIG, "replicaof": f"127.0.0.1 {salts.server.port}"}
    await salts.begin()
    before = files_with(salts.old, salts.server)
    assert {Path(name).suffix for name in before} == {".rdb", ".aof"}, before
    assert await slow_log_has(salts.redis, salts.old)
    replica = stack.enter_context(
        ValkeyServer(tmp_path / "replica", binary=flavour.redis_binary, config=config)
    )
    copy = connect_redis(replica.url)
    await eventually(lambda: copy.get(keys.salt(EARLIER)), lambda salt: salt == salts.old)
    await eventually(lambda: is_idle(copy))
    await copy.bgrewriteaof()
    await eventually(lambda: _async(bool(files_with(salts.old, replica))))

    await salts.rotate()
    assert files_with(salts.old, salts.server), "the files outlive the key"
    await salts.dispose()
    await eventually(
        lambda: _async(files_with(salts.old, salts.server, replica)), lambda files: files == []
    )
    assert await copy.get(keys.salt(EARLIER)) is None
    for redis in (salts.redis, copy):
        assert not await slow_log_has(redis, salts.old)
    assert await salts.disposal.due_since() is None
    assert await salts.store.salt_keys() == [keys.salt(await salts.store.server_month())]
    await copy.aclose()


async def test_a_replica_that_is_away_is_named_until_it_is_clean(
    salts: Salts,
    flavour: Flavour,
    tmp_path: Path,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.redis_client.COMMAND_SECONDS", 1.0)
    await salts.begin()
    config = {**CONFIG, "replicaof": f"127.0.0.1 {salts.server.port}"}
    replica = ValkeyServer(tmp_path / "replica", binary=flavour.redis_binary, config=config)
    stack.enter_context(replica)
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


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_crash_between_rotation_and_disposal_does_not_lose_the_disposal(
    salts: Salts, end: str
) -> None:
    await salts.begin()
    await salts.rotate()
    await salts.redis.aclose()
    if end == "kill":
        # What the script wrote is in the append-only file by then, or the whole step is not.
        await eventually(lambda: _async(b"disposal_due" in _append_only(salts.server)))
        salts.server.kill()
        salts.server.start()
    else:
        salts.server.restart()
    assert files_with(salts.old, salts.server)
    await salts.dispose()
    await eventually(lambda: _async(files_with(salts.old, salts.server)), lambda files: files == [])


async def test_what_a_server_refuses_is_said_with_what_an_operator_has_to_do(
    salts: Salts, tmp_path: Path
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
    code, output, _ = await run_command("rotation", "status", **environment)
    assert code == 0
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
        code, _, errors = await run_command("rotation", "rotate", **environment)
        assert code == 0, errors
        await eventually(rotation.metrics, lambda told: told["impact_disposal_unverified"] == 0)


async def test_a_replaced_salt_is_disposed_of_too(salts: Salts) -> None:
    """It was leaked: that is why it was replaced."""
    first = await salts.store.ensure()
    salt = await salts.store.read(first.term)
    assert salt is not None
    # In a buffer: one that is embedded in its key's object would be copied elsewhere by SETRANGE.
    assert await salts.redis.object("encoding", keys.salt(salt.month)) == b"raw"
    leaked = salt.value
    await salts.redis.bgsave()
    await eventually(lambda: _async(bool(files_with(leaked, salts.server))))
    environment = {"REDIS_URL": salts.server.url}
    code, output, errors = await run_command("rotation", "rotate", "--force", **environment)
    assert (code, "count twice" in output) == (0, True), errors
    await eventually(lambda: _async(files_with(leaked, salts.server)), lambda files: files == [])
    assert not await slow_log_has(salts.redis, leaked)


async def _async(value: Any) -> Any:
    return value


def _append_only(server: ValkeyServer) -> bytes:
    return b"".join(path.read_bytes() for path in server.data_dir.rglob("*.aof"))
