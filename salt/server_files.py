"""Has a server rewrite its files and its slow log, so that no destroyed salt is left in them."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from contract.errors import Retry
from runtime.redis_client import is_passing, server_words
from salt.report import Place, State

# A rewrite or save takes long if the streams are large.
_PATIENCE_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.05
_NOT_WRITTEN: Final = "the server could not write it: see its log, and whether its disk has room"


async def dispose_of_files(server: Redis, name: str) -> list[Place]:
    answer = await attempt(name, "server", server.ping)
    if answer.state is not State.CLEAN:
        return [answer]
    return [
        await attempt(name, "append-only file", partial(_rewrite_append_only_file, server)),
        await attempt(name, "RDB file", partial(_save_rdb_file, server)),
        await attempt(name, "slow log", server.slowlog_reset),
    ]


HELD_IT = (
    "it held the salt before and does not answer; its files are cleaned when it is back; if it is "
    "gone for good, destroy them"
)
_TO_DO = {
    "server": "give this process access",
    "append-only file": "run BGREWRITEAOF there",
    "RDB file": "run BGSAVE there",
    "slow log": "run SLOWLOG RESET there",
    "memory": "restart it, after its replicas are clean",
    "replication backlog": "write as many bytes as repl-backlog-size there",
}


async def attempt(name: str, place: str, clean: Callable[[], Awaitable[object]]) -> Place:
    """Cleans one place. Errors become its state, so that the other places are cleaned, too.

    `clean` may return a `State`; any other result stands for CLEAN.
    """
    try:
        state = await clean()
    except RedisError as error:
        if is_passing(error):
            to_do = f"{name} did not answer; if it is gone for good, destroy its files"
            return Place(name, place, State.FAILED, to_do)
        to_do = f"{name}: {_TO_DO[place]}: it refuses us ({server_words(error)})"
        return Place(name, place, State.REFUSED, to_do)
    except Retry as error:
        return Place(name, place, State.FAILED, str(error))
    return Place(name, place, state if isinstance(state, State) else State.CLEAN)


async def _rewrite_append_only_file(server: Redis) -> State:
    if not (await server.info("persistence"))["aof_enabled"]:
        return State.OFF
    after = await _renew(server, server.bgrewriteaof)
    if after["aof_last_bgrewrite_status"] != "ok":
        raise Retry("disposal", _NOT_WRITTEN)
    return State.CLEAN


async def _save_rdb_file(server: Redis) -> None:
    # Also if no saves are configured: a file of the last full synchronisation, or of an earlier
    # configuration, may be there.
    before = int((await server.time())[0])
    after = await _renew(server, server.bgsave)
    if after["rdb_last_bgsave_status"] != "ok" or int(after["rdb_last_save_time"]) < before:
        raise Retry("disposal", _NOT_WRITTEN)


async def _renew(server: Redis, begin: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """Has a file written anew, and waits for its end. Returns INFO's section `persistence` then."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                await _when_idle(server)
                try:
                    await begin()
                    return await _when_idle(server)
                except ResponseError as error:
                    # One that is not ours may have begun before the salt was destroyed.
                    if "in progress" not in str(error):
                        raise
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise Retry("busy", "a rewrite or save has been running for too long") from None


async def _when_idle(server: Redis) -> dict[str, Any]:
    """Waits until no rewrite or save runs or is scheduled."""
    while True:
        info: dict[str, Any] = await server.info("persistence")
        if not (
            info["aof_rewrite_in_progress"]
            or info["aof_rewrite_scheduled"]
            or info["rdb_bgsave_in_progress"]
        ):
            return info
        await asyncio.sleep(_POLL_SECONDS)
