"""Has a server's files and slow log rewritten, so that no destroyed salt is left in them."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from contract.errors import Retry
from runtime.redis_client import is_passing, server_words
from runtime.retry import Backoff, retry
from salt.report import Place, State

# A background rewrite or save of a large backlog takes its time.
_PATIENCE_SECONDS: Final = 600.0
_POLL: Final = Backoff(0.05, 0.05)


class _Busy(Retry):
    """A rewrite or save is already running; there can be only one."""

    def __init__(self) -> None:
        super().__init__("busy", "a rewrite or save has been running for too long")


async def dispose_of_files(server: Redis, name: str) -> list[Place]:
    there = await attempt(name, "server", lambda: _answer(server))
    if there.state is not State.CLEAN:
        return [there]
    return [
        await attempt(name, "append-only file", lambda: _rewrite_append_only_file(server)),
        await attempt(name, "RDB file", lambda: _save_rdb_file(server)),
        await attempt(name, "slow log", lambda: _reset_slow_log(server)),
    ]


HELD_IT = (
    "it held the salt before and does not answer; its files are disposed of when it is back: if it "
    "is gone for good, destroy them"
)
_TO_DO = {
    "server": "let this process in",
    "append-only file": "run BGREWRITEAOF there",
    "RDB file": "run BGSAVE there",
    "slow log": "run SLOWLOG RESET there",
    "memory": "restart it, once its replicas are clean",
    "replication backlog": "write as many bytes as repl-backlog-size there",
}


async def attempt(name: str, place: str, dispose: Callable[[], Awaitable[State]]) -> Place:
    """Does one step at one place. If a server refuses or is away, the others are still cleaned."""
    try:
        state = await dispose()
    except RedisError as error:
        if is_passing(error):
            to_do = f"{name} did not answer; if it is gone for good, destroy its files"
            return Place(name, place, State.FAILED, to_do)
        to_do = f"{name}: {_TO_DO[place]}: it refuses us ({server_words(error)})"
        return Place(name, place, State.REFUSED, to_do)
    except Retry as error:
        return Place(name, place, State.FAILED, str(error))
    return Place(name, place, state, "")


async def _answer(server: Redis) -> State:
    await server.ping()
    return State.CLEAN


async def _rewrite_append_only_file(server: Redis) -> State:
    if not (await server.info("persistence"))["aof_enabled"]:
        return State.OFF
    await _when_idle(server)
    await _begin(server.bgrewriteaof)
    after = await _when_idle(server)
    return State.CLEAN if after["aof_last_bgrewrite_status"] == "ok" else State.FAILED


async def _save_rdb_file(server: Redis) -> State:
    # Also where no saves are configured: a replica keeps the file of its last full synchronisation,
    # and a server that of an earlier configuration.
    await _when_idle(server)
    before = int((await server.time())[0])
    await _begin(server.bgsave)
    after = await _when_idle(server)
    saved = after["rdb_last_bgsave_status"] == "ok" and int(after["rdb_last_save_time"]) >= before
    return State.CLEAN if saved else State.FAILED


async def _reset_slow_log(server: Redis) -> State:
    await server.slowlog_reset()
    return State.CLEAN


async def _begin(command: Callable[[], Awaitable[object]]) -> None:
    """Starts the background work of `command` on the server."""

    async def ask() -> None:
        try:
            await command()
        except ResponseError as error:
            if "in progress" not in str(error):
                raise
            # Somebody else's, begun in between: maybe before the salt was destroyed, so not ours.
            raise _Busy from None

    await retry(ask, _Busy, _POLL, within=_PATIENCE_SECONDS)


async def _when_idle(server: Redis) -> dict[str, Any]:
    """Waits until no rewrite and no save runs or is scheduled; the server's persistence section."""

    async def look() -> dict[str, Any]:
        info: dict[str, Any] = await server.info("persistence")
        if (
            info["aof_rewrite_in_progress"]
            or info["aof_rewrite_scheduled"]
            or info["rdb_bgsave_in_progress"]
        ):
            raise _Busy
        return info

    return await retry(look, _Busy, _POLL, within=_PATIENCE_SECONDS)
