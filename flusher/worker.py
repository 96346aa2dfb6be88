"""The worker: batches, from the streams to PostgreSQL, until it is asked to stop."""

import time
from contextlib import suppress
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import structlog

from contract.calendar import SECOND_US
from contract.errors import DeadLetter, NewerVersion, Retry, TimedOut
from contract.metrics import FlusherMetrics
from flusher.housekeeping import Housekeeping
from flusher.postgres.write import SessionWriter, Written
from flusher.rows.batch import Batch, Undecodable, decode_entries
from flusher.server_time import ServerTime
from flusher.stream.gather import Gathering
from flusher.stream.portions import Portions
from flusher.stream.read import StreamReader
from runtime.outage import Outage
from runtime.service_manager import Beat
from runtime.stopping import Stopping

_POLL_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Flushed:
    """What one batch came to: entries that ended, of which `dead` were set aside."""

    entries: int = 0
    dead: int = 0


@dataclass(slots=True)
class _Committed:
    """A batch that is in PostgreSQL, and whether its acknowledgement once went unanswered."""

    batch: Batch
    written: Written
    was_unanswered: bool = False


class Worker:
    """One flusher. `run` is `run_once` over and over, with its faults waited out."""

    def __init__(
        self,
        reader: StreamReader,
        writer: SessionWriter,
        metrics: FlusherMetrics,
        zone: ZoneInfo,
        max_rows: int,
        max_seconds: float,
        claim_seconds: float,
        helps: "Worker | None" = None,
    ) -> None:
        """
        Args:
            reader: a consumer of this worker's own.
            writer: with a connection of this worker's own.
            metrics: of the process.
            zone: whose calendar months count.
            max_rows: a batch closes at so many,
            max_seconds: or when its first entry is so old.
            claim_seconds: as the reader's.
            helps: a worker that does all there is to do by itself while it keeps up; this one then
                waits, and keeps no house.
        """
        self._reader = reader
        self._helps = helps
        self._writer = writer
        self._metrics = metrics
        self._time = server_time = ServerTime(self._postgres_us)
        self._max_seconds = max_seconds
        self._gathering = Gathering(reader, server_time, zone, max_rows, claim_seconds)
        self._portions = Portions()
        self._committed: list[_Committed] = []  # in PostgreSQL, and not yet acknowledged
        self._housekeeping = Housekeeping(
            reader,
            writer,
            metrics,
            server_time,
            zone,
            claim_seconds,
            finds_shards_only=helps is not None,
        )
        self.outage: Outage = helps.outage if helps else Outage("batches go on")
        # By the steady clock: a batch ended, or there was none.
        self.last_success: float | None = None

    async def prepare(self) -> None:
        """Makes what must be there before the first batch: the consumer groups.

        Raises:
            Retry: Redis is away.
        """
        await self._reader.create_groups()
        await self._housekeeping.find_shards()

    async def run_once(self) -> Flushed:
        """Reads what there is, up to a batch, and stores it.

        Raises:
            Retry: a server is away; what was read is kept for the next call.
        """
        await self._gathering.gather()
        return await self._flush(self._gathering.take())

    async def run(self, stopping: Stopping, beat: Beat) -> bool:
        """Flushes batches as they fill or age, until asked to stop; then what it holds.

        Args:
            stopping: asked to stop.
            beat: called at each turn, also while a server is away.

        Returns:
            Whether everything that it had read is stored and acknowledged. What is not stays
            pending, and is taken over by another flusher, or by this one when it is back.
        """
        pause = _FIRST_PAUSE_SECONDS
        prepared = False
        while True:
            beat()
            failing: object = self
            try:
                if not self._is_needed:
                    self.outage.works(self)
                    self.outage.works(self._housekeeping)
                    if await stopping.wait(_POLL_SECONDS):
                        break
                    continue
                if not prepared:
                    await self.prepare()
                    prepared = True
                await self._fill(stopping, beat)
                await self._flush(self._gathering.take())
                self.outage.works(self)
                failing = self._housekeeping  # an empty batch says nothing of PostgreSQL
                if await self._housekeeping.run_if_due():
                    self.outage.works(self._housekeeping)
                if stopping.asked:
                    break
                pause = _FIRST_PAUSE_SECONDS
            except Retry as error:
                self.outage.fails(failing)
                log.warning(
                    "a batch has to wait",
                    why=str(error),
                    seconds=pause,
                    to_do=f"nothing is lost; see that {_server_of(error)} is up",
                )
                with suppress(Retry):
                    await self._housekeeping.run_if_due()  # what failed may be one batch alone
                if await stopping.wait(pause):
                    break
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        try:
            await self._reader.retire()
        except Retry as error:
            log.warning("the consumer group could not be left", why=str(error))
        return not self._gathering.size and not self._committed

    async def _postgres_us(self) -> int:
        return await self._writer.server_us()

    @property
    def is_behind(self) -> bool:
        """Whether there was more in the streams than it could take."""
        return self._reader.left_some

    @property
    def _is_needed(self) -> bool:
        in_hand = self._gathering.size or self._committed
        return self._helps is None or self._helps.is_behind or bool(in_hand)

    async def _fill(self, stopping: Stopping, beat: Beat) -> None:
        """Gathers until a batch is full, or its first entry is `max_seconds` old."""
        closes: float | None = None
        while not self._gathering.is_full and not stopping.asked:
            beat()
            await self._gathering.gather()
            if self._gathering.size and closes is None:
                closes = time.monotonic() + self._max_seconds
            if closes is not None and time.monotonic() >= closes:
                return
            if not self._gathering.may_go_on:
                await stopping.wait(_POLL_SECONDS)
            if closes is None and self._housekeeping.is_due:
                return

    async def _flush(self, batch: Batch) -> Flushed:
        entries = len(batch.entries) + len(batch.broken)
        entries += sum(len(committed.batch.entries) for committed in self._committed)
        # What PostgreSQL refuses, or takes too long for, is halved until it stands alone.
        pieces = [batch] if batch.entries else []
        buried = newer = 0
        try:
            await self._acknowledge()
            while pieces:
                await self._store_first(pieces, batch)
                await self._acknowledge()
            # Last, since a full Redis has no room for more until the others are gone.
            while batch.divisible:
                await self._reader.divide(batch.divisible[0])
                batch.divisible.pop(0)
            newer = _take_newer(batch)
            while batch.undecodable:
                await self._bury(batch.undecodable[0])
                batch.undecodable.pop(0)
                buried += 1
        except BaseException:
            left = [entry for piece in pieces for entry in piece.entries]
            self._gathering.put_back([*left, *batch.broken])
            raise
        if newer:
            # Pending, not forgotten: flushers take them over in turns, until one can read them.
            log.warning(
                "entries of a newer release wait for a flusher of that release",
                count=newer,
                to_do="deploy the flushers of that release",
            )
        self.last_success = time.monotonic()
        return Flushed(entries - newer, buried)

    async def _store_first(self, pieces: list[Batch], batch: Batch) -> None:
        """Writes the first piece of a batch. What of it is still to be written comes in its place,
        or after all others where it took too long.
        """
        piece = pieces[0]
        entries = len(piece.entries)
        try:
            if self._portions.is_too_large(entries):
                pieces[:1] = self._halves(piece)
                return
            await self._store(piece, briefly=self._portions.are_tried_briefly(entries))
        except DeadLetter as why:
            pieces[:1] = self._isolate(piece, why, batch)
            return
        except TimedOut as error:
            self._portions.took_too_long(entries)
            log.warning("a batch took too long", why=str(error), entries=entries)
            pieces.append(pieces.pop(0))
            if entries == 1 and self._portions.is_hopeless(piece.entries[0]):
                pieces[-1:] = self._isolate(piece, DeadLetter("timed_out", str(error)), batch)
            elif self._portions.are_in_vain or len(pieces) == entries == 1:
                raise
            return
        self._portions.stored(entries)
        pieces.pop(0)

    async def _store(self, piece: Batch, *, briefly: bool) -> None:
        started = time.perf_counter()
        written = await self._writer.write(piece, briefly=briefly)
        write_seconds = time.perf_counter() - started
        self._metrics.flush_seconds.labels("write").observe(write_seconds)
        # From here on these are rows: if they can't be acknowledged now, that is all that is left
        # to do for them.
        self._committed.append(_Committed(piece, written))
        for month in written.salts_lost:
            self._metrics.salts_lost.inc()
            log.error(
                "the month's salt was lost or replaced in its middle: "
                "who came before and comes again is counted twice this month",
                month=f"{month:%Y-%m}",
                to_do="say it with the month's numbers: the report does; see why it was lost",
            )
        log.info(
            "flushed",
            entries=len(piece.entries),
            sessions=written.sessions,
            upgrades=written.upgrades,
            duplicates=written.duplicate_sessions + written.duplicate_upgrades,
            write_ms=round(write_seconds * 1000, 1),
        )

    def _halves(self, piece: Batch) -> list[Batch]:
        middle = len(piece.entries) // 2
        halves = piece.entries[:middle], piece.entries[middle:]
        return [decode_entries(half, self._gathering.latest) for half in halves]

    def _isolate(self, piece: Batch, why: DeadLetter, batch: Batch) -> list[Batch]:
        """The halves of a piece that PostgreSQL refuses; one entry is set apart."""
        if len(piece.entries) > 1:
            return self._halves(piece)
        (entry,) = piece.entries
        if piece.records > 1:
            batch.divisible.append(entry)
        else:
            batch.undecodable.append(Undecodable(entry, why))
        return []

    async def _acknowledge(self) -> None:
        while self._committed:
            committed = self._committed[0]
            batch = committed.batch
            started = time.perf_counter()
            try:
                ended = await self._reader.acknowledge(batch.accepted)
                await self._reader.acknowledge(batch.notices)
            except Retry:
                committed.was_unanswered = True
                self._metrics.acknowledge_unanswered.inc(batch.records - len(batch.notices))
                raise
            self._committed.pop(0)
            seconds = time.perf_counter() - started
            self._metrics.flush_seconds.labels("acknowledge").observe(seconds)
            # What another flusher ended, it counted: so each entry is counted once. Except when an
            # answer was lost: then it was most likely this one's.
            accepted = batch.records - len(batch.notices)
            self._count(committed, 0 if committed.was_unanswered else accepted - ended)

    def _count(self, committed: _Committed, others: int) -> None:
        """Counts a batch, less the entries that others have ended."""
        metrics, written = self._metrics, committed.written
        counts = (
            (metrics.duplicate.labels("session"), written.duplicate_sessions),
            (metrics.duplicate.labels("upgrade"), written.duplicate_upgrades),
            (metrics.written.labels("session"), written.sessions),
            (metrics.written.labels("upgrade"), written.upgrades),
        )
        for counter, events in counts:
            # What this flusher found known is what another stored.
            counted = max(events - others, 0)
            others -= events - counted
            counter.inc(counted)
        if committed.batch.oldest_us is not None:
            age_us = self._time.now_us() - committed.batch.oldest_us
            metrics.end_to_end_seconds.observe(max(age_us / SECOND_US, 0.0))

    async def _bury(self, undecodable: Undecodable) -> None:
        found, dropped = await self._reader.bury(undecodable.entry, undecodable.why)
        if not found:
            return  # another flusher, that had it too, has ended it
        if dropped:
            self._metrics.dead_dropped.inc(dropped)
            log.error(
                "the oldest dead letters were dropped: there are too many",
                count=dropped,
                to_do="`python -m flusher dead list`; mend the cause, replay or drop them",
            )
        self._metrics.dead.labels(undecodable.why.reason).inc()
        log.error(
            "an entry was set aside as a dead letter",
            shard=undecodable.entry.shard,
            entry=undecodable.entry.id.decode(),
            reason=undecodable.why.reason,
            detail=str(undecodable.why),
            to_do="`python -m flusher dead list`; replay it once the cause is mended",
        )


def _server_of(error: Retry) -> str:
    return "Redis" if error.reason.startswith("redis") else "PostgreSQL"


def _take_newer(batch: Batch) -> int:
    """Takes out of a batch what is for a newer release's flushers; how many entries that is."""
    before = len(batch.undecodable)
    batch.undecodable[:] = [
        each for each in batch.undecodable if not isinstance(each.why, NewerVersion)
    ]
    return before - len(batch.undecodable)
