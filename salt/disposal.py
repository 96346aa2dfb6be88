"""What a destroyed salt has left outside of the keyspace: overwritten, and looked at again.

Deleting a key does not delete its bytes. The append-only file keeps the command that wrote it until
the file is rewritten; an RDB file keeps the value until the next save; the slow log keeps
arguments; the replication backlog keeps commands; and each replica has files of its own. This walks
all of them.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError, WatchError

from contract import keys
from contract.calendar import from_us
from contract.errors import Retry
from runtime.redis_client import Address, is_passing, retry_for, server_name, server_words
from salt.client import SaltServer
from salt.holders import SaltHolders, replicas
from salt.store import SaltStore

# A background rewrite or save of a large backlog takes its time.
_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.05
_SCRUB_CHUNK = 512 * 1024

log = structlog.get_logger()


class State(StrEnum):
    """What is known about a place where a salt may be left."""

    CLEAN = "clean"  # rewritten after the salt was destroyed, or looked at and not there
    OFF = "off"  # the server does not keep such a thing
    REFUSED = "refused"  # the server does not let us: an operator has to
    FAILED = "failed"  # it will be tried again


@dataclass(frozen=True, slots=True)
class Place:
    """One place on one server, and what an operator still has to do about it, if anything."""

    server: str
    place: str
    state: State
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a disposal."""

    at: str
    places: list[Place]

    @property
    def failed(self) -> list[Place]:
        return [place for place in self.places if place.state is State.FAILED]

    @property
    def refused(self) -> list[Place]:
        return [place for place in self.places if place.state is State.REFUSED]


class SaltDisposal:
    """Disposes of what destroyed salts have left on a server, its replicas and its predecessors."""

    def __init__(self, server: SaltServer, store: SaltStore) -> None:
        """
        Args:
            server: the salt's.
            store: its salts.
        """
        self._redis = server.redis
        self._store = store
        self._holders = SaltHolders(server)
        self._connect_to = server.connect_to

    async def note_holders(self) -> None:
        """Writes down who has the salt in its files by now; to be done again and again.

        Raises:
            Retry: Redis does not answer.
        """
        await self._holders.note()

    async def due_since(self) -> int | None:
        """Since when a disposal is due, in milliseconds of the server's clock; None: it is not.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            due: Any = await self._redis.get(keys.DISPOSAL_DUE)
        except RedisError as error:
            raise retry_for(error, "looking whether a disposal is due") from None
        return int(due) if due else None

    async def last_report(self) -> Report | None:
        """What the last disposal found.

        Raises:
            Retry: Redis does not answer.
        """
        try:
            text: Any = await self._redis.get(keys.DISPOSAL_REPORT)
        except RedisError as error:
            raise retry_for(error, "reading the disposal's report") from None
        if not text:
            return None
        report = json.loads(text)
        places = [Place(**{**p, "state": State(p["state"])}) for p in report["places"]]
        return Report(report["at"], places)

    async def dispose(self, due_since: int) -> Report:
        """Walks every place, and ends what is due unless something failed.

        Whatever rotates meanwhile makes it due again.

        Raises:
            Retry: Redis does not answer; it stays due.
        """
        try:
            name = server_name(self._redis)
            places = [await _attempt(name, "replication backlog", self._scrub_backlog)]
            places += await _dispose_of_files(self._redis, name)
            for address in await replicas(self._redis):
                async with self._server(address) as replica:
                    places += await _dispose_of_files(replica, str(address))
            unverified = []
            for address in await self._holders.former():
                async with self._server(address) as server:
                    found = await _dispose_of_files(server, str(address))
                if any(place.state is State.FAILED for place in found):
                    unverified.append(str(address))
                    found = [Place(str(address), "server", State.REFUSED, _HELD_IT)]
                places += found
            places.append(await self._look_at_keyspace(name))
            at = from_us(await self._store.server_us())
            report = Report(at.strftime("%Y-%m-%dT%H:%M:%SZ"), places)
            # Another process may have done it meanwhile: its good news is not written over.
            if not report.failed or await self.due_since() is not None:
                await self._redis.set(keys.DISPOSAL_REPORT, json.dumps(asdict(report)))
            if not report.failed:
                await self._holders.disposed(unverified)
                await self._end(due_since)
        except RedisError as error:
            raise retry_for(error, "disposing of a destroyed salt") from None
        return report

    async def _end(self, due_since: int) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            await pipeline.watch(keys.DISPOSAL_DUE)
            due: Any = await pipeline.get(keys.DISPOSAL_DUE)
            if due and int(due) == due_since:
                pipeline.multi()  # type: ignore[no-untyped-call]  # the library has no types here
                pipeline.delete(keys.DISPOSAL_DUE)
                with suppress(WatchError):  # another process has ended it, or made it due anew
                    await pipeline.execute()

    async def _scrub_backlog(self) -> State:
        """Pushes everything older out of the replication backlog, by as much that means nothing."""
        info = await self._redis.info("replication")
        if not info.get("repl_backlog_active"):
            return State.OFF
        left = int(info["repl_backlog_size"]) + _SCRUB_CHUNK
        while left > 0:
            await self._redis.set(keys.SCRUB, bytes(_SCRUB_CHUNK))
            left -= _SCRUB_CHUNK
        await self._redis.delete(keys.SCRUB)
        return State.CLEAN

    async def _look_at_keyspace(self, name: str) -> Place:
        month = await self._store.recorded_month()
        left = (
            [key for key in await self._store.salt_keys() if key != keys.salt(month)]
            if month
            else []
        )
        if left:
            return Place(name, "keyspace", State.FAILED, f"still there: {', '.join(left)}")
        return Place(name, "keyspace", State.CLEAN)

    @asynccontextmanager
    async def _server(self, address: Address) -> AsyncIterator[Redis]:
        server = self._connect_to(*address)
        try:
            yield server
        finally:
            await server.aclose()


async def _dispose_of_files(server: Redis, name: str) -> list[Place]:
    there = await _attempt(name, "server", lambda: _answer(server))
    if there.state is not State.CLEAN:
        return [there]
    return [
        await _attempt(name, "append-only file", lambda: _rewrite_append_only_file(server)),
        await _attempt(name, "RDB file", lambda: _save_rdb_file(server)),
        await _attempt(name, "slow log", lambda: _reset_slow_log(server)),
    ]


_HELD_IT = (
    "it held the salt before and does not answer; its files are disposed of when it is back: if it "
    "is gone for good, destroy them"
)
_TO_DO = {
    "server": "let this process in",
    "append-only file": "run BGREWRITEAOF there",
    "RDB file": "run BGSAVE there",
    "slow log": "run SLOWLOG RESET there",
    "replication backlog": "write as many bytes as repl-backlog-size there",
}


async def _attempt(name: str, place: str, dispose: Callable[[], Awaitable[State]]) -> Place:
    """Does one thing at one place. That one server refuses or is away does not spare the others."""
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
    await _ask(server, server.bgrewriteaof)
    after = await _when_idle(server)
    return State.CLEAN if after["aof_last_bgrewrite_status"] == "ok" else State.FAILED


async def _save_rdb_file(server: Redis) -> State:
    # Also where no saves are configured: a replica keeps the file of its last full synchronisation,
    # and a server that of an earlier configuration.
    await _when_idle(server)
    before = int((await server.time())[0])
    await _ask(server, server.bgsave)
    after = await _when_idle(server)
    saved = after["rdb_last_bgsave_status"] == "ok" and int(after["rdb_last_save_time"]) >= before
    return State.CLEAN if saved else State.FAILED


async def _reset_slow_log(server: Redis) -> State:
    await server.slowlog_reset()
    return State.CLEAN


async def _ask(server: Redis, command: Callable[[], Awaitable[object]]) -> None:
    """Has the server begin in the background what `command` asks for."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            await command()
        except ResponseError as error:
            # Somebody else's, begun in between: maybe before the salt was destroyed, so not ours.
            if "in progress" not in str(error) or time.monotonic() > deadline:
                raise
            await _when_idle(server)
        else:
            return


async def _when_idle(server: Redis) -> dict[str, Any]:
    """Waits until no rewrite and no save runs or is scheduled; the server's persistence section."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        info: dict[str, Any] = await server.info("persistence")
        if not (
            info["aof_rewrite_in_progress"]
            or info["aof_rewrite_scheduled"]
            or info["rdb_bgsave_in_progress"]
        ):
            return info
        if time.monotonic() > deadline:
            raise Retry("busy", "a rewrite or save has been running for too long")
        await asyncio.sleep(_POLL_SECONDS)


def log_report(report: Report) -> None:
    """Says what a disposal found, and what an operator has to do about it."""
    for place in report.failed:
        log.error(
            "a destroyed salt may be left; this is tried again",
            server=place.server,
            place=place.place,
            why=place.to_do,
        )
    for place in report.refused:
        log.error(
            "a destroyed salt may be left where the server does not let this process look",
            server=place.server,
            place=place.place,
            to_do=place.to_do,
        )
    if not report.failed and not report.refused:
        log.info("no earlier salt is left", places=len(report.places))
