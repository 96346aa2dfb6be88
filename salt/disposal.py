"""Removes copies of a destroyed salt outside of the keyspace, and checks the result.

Deleting a key does not delete its bytes. The append-only file keeps the command that wrote it until
the file is rewritten; an RDB file keeps the value until the next save; the slow log keeps
arguments; the replication backlog keeps commands; freed memory keeps all of these. Each replica has
its own files and memory.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import structlog
from redis.exceptions import RedisError, WatchError

from contract import keys
from contract.calendar import SECOND_US, from_us
from runtime.cluster import server_name
from runtime.periodic import failure_log, repeat
from runtime.redis_client import as_retry
from runtime.stopping import Stopping
from salt.client import SaltServer
from salt.holders import SaltHolders, replicas
from salt.report import Place, Report, State, log_report
from salt.server_files import HELD_IT, attempt, dispose_of_files
from salt.store import SaltStore

_SCRUB_CHUNK = 512 * 1024
_CHECK_SECONDS = 10.0
# Rotation checks every five seconds, so it would have begun by then.
_LATE_SECONDS = 20.0

log = structlog.get_logger()


class SaltDisposal:
    """Removes copies of destroyed salts from the salt's server, its replicas and former holders.

    Each method raises Retry if Redis does not answer.
    """

    def __init__(self, server: SaltServer, store: SaltStore) -> None:
        self._redis = server.redis
        self._store = store
        self.holders = SaltHolders(server)
        self._connect_to = server.connect_to

    async def due_since(self) -> int | None:
        """Since when a disposal is due, in milliseconds of the server's clock; None: none is."""
        with as_retry("checking whether a disposal is due"):
            due: Any = await self._redis.get(keys.DISPOSAL_DUE)
        return int(due) if due else None

    async def last_report(self) -> Report | None:
        with as_retry("reading the disposal's report"):
            text: Any = await self._redis.get(keys.DISPOSAL_REPORT)
        if not text:
            return None
        report = json.loads(text)
        places = [Place(**{**p, "state": State(p["state"])}) for p in report["places"]]
        return Report(report["at"], places)

    async def dispose(self, due_since: int) -> Report:
        """Cleans every place. The disposal is then no longer due, unless something failed or a
        rotation has made it due again meanwhile.
        """
        with as_retry("disposing of a destroyed salt"):
            name = server_name(self._redis)
            places = [
                await attempt(name, "replication backlog", self._scrub_backlog),
                # After the backlog, whose old memory is now free.
                await attempt(name, "memory", self._store.push_out),
            ]
            places += await dispose_of_files(self._redis, name)
            for address in await replicas(self._redis):
                async with self._connect_to(*address) as replica:
                    places += await dispose_of_files(replica, str(address))
            unverified = []
            for address in await self.holders.former():
                async with self._connect_to(*address) as server:
                    found = await dispose_of_files(server, str(address))
                if any(place.state is State.FAILED for place in found):
                    unverified.append(str(address))
                    found = [Place(str(address), "server", State.REFUSED, HELD_IT)]
                places += found
            places.append(await self._check_keyspace(name))
            at = from_us(await self._store.server_us())
            report = Report(at.strftime("%Y-%m-%dT%H:%M:%SZ"), places)
            # If another process has succeeded meanwhile, its report stays.
            if not report.failed or await self.due_since() is not None:
                await self._redis.set(keys.DISPOSAL_REPORT, json.dumps(asdict(report)))
            if not report.failed:
                await self.holders.disposed(unverified)
                await self._finish(due_since)
        return report

    async def run_if_late(self) -> None:
        """Does a disposal that rotation should have begun by now."""
        due_since = await self.due_since()
        if due_since is None:
            return
        if await self._store.server_us() - due_since * 1000 >= _LATE_SECONDS * SECOND_US:
            log.warning(
                "rotation has not removed a destroyed salt: this process does it",
                to_do="check that rotation runs",
            )
            log_report(await self.dispose(due_since))

    async def run(self, stopping: Stopping) -> None:
        """Does rotation's work if rotation does not run, until asked to stop."""
        report = failure_log(
            "copies of a destroyed salt could not be searched for",
            "copies of a destroyed salt can be searched for again",
            "check that the salt's Redis is up",
        )
        await stopping.wait(_CHECK_SECONDS)  # so that a rotation that starts now comes first
        await repeat(self.run_if_late, stopping, _CHECK_SECONDS, report=report)

    async def _finish(self, due_since: int) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            await pipeline.watch(keys.DISPOSAL_DUE)
            due: Any = await pipeline.get(keys.DISPOSAL_DUE)
            if due and int(due) == due_since:
                pipeline.multi()  # type: ignore[no-untyped-call]  # the library has no types here
                pipeline.delete(keys.DISPOSAL_DUE)
                with suppress(WatchError):  # another process has finished it, or made it due again
                    await pipeline.execute()

    async def _scrub_backlog(self) -> State:
        """Overwrites the replication backlog with filler, and thereby also those of the replicas,
        which may become primaries later.
        """
        info = await self._redis.info("replication")
        if not info.get("repl_backlog_active"):
            return State.OFF
        sizes = [int(info["repl_backlog_size"])]
        for address in await replicas(self._redis):
            async with self._connect_to(*address) as replica:
                with suppress(RedisError):  # the report says so when its files are cleaned
                    sizes.append(int((await replica.info("replication"))["repl_backlog_size"]))
        left = max(sizes) + _SCRUB_CHUNK
        while left > 0:
            await self._redis.set(keys.SCRUB, bytes(_SCRUB_CHUNK))
            left -= _SCRUB_CHUNK
        await self._redis.delete(keys.SCRUB)
        return State.CLEAN

    async def _check_keyspace(self, name: str) -> Place:
        month = await self._store.recorded_month()
        found = await self._store.salt_keys() if month else []
        if left := [key for key in found if month and key != keys.salt(month)]:
            return Place(name, "keyspace", State.FAILED, f"not deleted: {', '.join(left)}")
        return Place(name, "keyspace", State.CLEAN)
