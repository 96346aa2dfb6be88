"""The worker: writes batches from the streams to PostgreSQL, until it is asked to stop."""

import time
from dataclasses import dataclass
from functools import partial

import structlog

from contract.errors import DeadLetter, NewerVersion, Retry, TimedOut
from contract.flusher_metrics import FlusherMetrics
from flusher.committed import Committed
from flusher.postgres.write import SessionWriter, Written
from flusher.rows.batch import Batch, Undecodable, decode_entries
from flusher.server_time import ServerTime
from flusher.stream.batch_builder import BatchBuilder
from flusher.stream.dead_letters import set_aside
from flusher.stream.portions import Portions
from flusher.stream.read import StreamReader
from flusher.worker_settings import WorkerSettings
from runtime.periodic import Backoff, Outage, repeat
from runtime.service_manager import Beat
from runtime.stopping import Stopping

_POLL_SECONDS = 0.05
_BACKOFF = Backoff(0.1, 5.0)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Flushed:
    """The result of one batch: how many entries are done, of which `dead` became dead letters."""

    entries: int = 0
    dead: int = 0


class Worker:
    """One worker of a flusher. `run` writes batch after batch; `run_once` writes one."""

    def __init__(
        self,
        reader: StreamReader,
        writer: SessionWriter,
        metrics: FlusherMetrics,
        settings: WorkerSettings,
        helps: "Worker | None" = None,
    ) -> None:
        """
        Args:
            reader: this worker's own consumer.
            writer: with this worker's own connection.
            metrics: of the process.
            settings: of the process; `claim_seconds` is the same as the reader's.
            helps: the main worker, if this is the second one. The second one only works while the
                main worker is behind.
        """
        self._reader = reader
        self._helps = helps
        self._writer = writer
        self._metrics = metrics
        server_time = ServerTime(writer.server_us)
        self._max_seconds = settings.max_seconds
        self._builder = BatchBuilder(reader, server_time, settings)
        self._portions = Portions()
        self._committed = Committed(reader, metrics, server_time)
        self.outage: Outage = helps.outage if helps else Outage("batches go on")
        # By the monotonic clock: when a batch was done last, or none was there.
        self.last_success: float | None = None

    async def run_once(self) -> Flushed:
        """Reads the entries that are there, up to one batch, and stores them.

        Raises:
            Retry: a server is away; the entries are kept for the next call.
        """
        await self._builder.fill()
        while self.is_behind and not self._builder.is_full:
            await self._builder.fill()
        return await self._flush(self._builder.take())

    async def run(self, stopping: Stopping, beat: Beat) -> bool:
        """Writes batches when they are full or old enough, until asked to stop; then the last one.

        Args:
            stopping: whether it was asked to stop.
            beat: called in each turn, also while a server is away.

        Returns:
            Whether all entries that it has read are stored and acknowledged. The others stay
            pending until another flusher takes them over.
        """
        turn = partial(self._turn, stopping, beat)
        await repeat(turn, stopping, self._pause, report=self._report, backoff=_BACKOFF)
        try:
            await self._reader.retire()
        except Retry as error:
            log.warning("the consumer group could not be left", why=str(error))
        return not self._in_hand

    def _pause(self) -> float:
        return 0.0 if self._is_needed else _POLL_SECONDS

    async def _turn(self, stopping: Stopping, beat: Beat) -> None:
        beat()
        if not self._is_needed:
            return
        await self._fill(stopping, beat)
        await self._flush(self._builder.take())

    def _report(self, error: Exception | None, pause: float) -> None:
        """Logs that a batch has to wait, and at the end that batches go on."""
        if error is None:
            self.outage.works(self)
            return
        self.outage.fails(self)
        redis = isinstance(error, Retry) and error.reason.startswith("redis")
        to_do = f"nothing is lost; check that {'Redis' if redis else 'PostgreSQL'} is up"
        log.warning("a batch has to wait", why=str(error), seconds=round(pause, 1), to_do=to_do)

    @property
    def is_behind(self) -> bool:
        """Whether the streams had more entries than it could take."""
        return self._reader.left_some

    @property
    def _is_needed(self) -> bool:
        return self._helps is None or self._helps.is_behind or bool(self._in_hand)

    @property
    def _in_hand(self) -> int:
        """How many entries it has read and not stored, or not acknowledged."""
        return self._builder.size + self._committed.entries

    async def _fill(self, stopping: Stopping, beat: Beat) -> None:
        """Reads until the batch is full, or `max_seconds` after its first entry was read; if there
        is no entry, once.
        """
        closes: float | None = None
        while not self._builder.is_full and not stopping.asked:
            beat()
            await self._builder.fill()
            if self._builder.size and closes is None:
                closes = time.monotonic() + self._max_seconds
            if closes is not None and time.monotonic() >= closes:
                return
            if not self.is_behind and not self._builder.is_full:
                await stopping.wait(_POLL_SECONDS)
            if closes is None:
                return

    async def _flush(self, batch: Batch) -> Flushed:
        entries = len(batch.entries) + len(batch.broken) + self._committed.entries
        # A piece that PostgreSQL refuses, or that takes too long, is halved until it is one entry.
        pieces = [batch] if batch.entries else []
        dead = newer = 0
        try:
            await self._committed.acknowledge()
            while pieces:
                await self._store_first(pieces, batch)
                await self._committed.acknowledge()
            # Last, because a full Redis has no room for them until other entries are deleted.
            while batch.divisible:
                await self._reader.split(batch.divisible[0])
                batch.divisible.pop(0)
            newer = _take_newer(batch)
            while batch.undecodable:
                await set_aside(self._reader.servers, self._metrics, batch.undecodable[0])
                batch.undecodable.pop(0)
                dead += 1
        except BaseException:
            left = [entry for piece in pieces for entry in piece.entries]
            self._builder.put_back([*left, *batch.broken])
            raise
        if newer:
            # They stay pending. Flushers take them over in turn, until one can read them.
            log.warning(
                "entries of a newer release wait for a flusher of that release",
                count=newer,
                to_do="deploy the flushers of that release",
            )
        self.last_success = time.monotonic()
        return Flushed(entries - newer, dead)

    async def _store_first(self, pieces: list[Batch], batch: Batch) -> None:
        """Writes the first of the pieces, and removes it. If it is not written, its halves replace
        it; if it took too long, it goes behind the others.
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
        self._committed.add(piece, written)
        self._log_lost_salts(written)
        log.info(
            "flushed",
            entries=len(piece.entries),
            sessions=written.sessions,
            upgrades=written.upgrades,
            duplicates=written.duplicate_sessions + written.duplicate_upgrades,
            write_ms=round(write_seconds * 1000, 1),
        )

    def _log_lost_salts(self, written: Written) -> None:
        for month in written.salts_lost:
            self._metrics.salts_lost.inc()
            log.error(
                "the month's salt was lost or replaced within the month: "
                "people who came before and come again count twice this month",
                month=f"{month:%Y-%m}",
                to_do="find out why; mention it next to the month's numbers, as the report does",
            )

    def _halves(self, piece: Batch) -> list[Batch]:
        middle = len(piece.entries) // 2
        halves = piece.entries[:middle], piece.entries[middle:]
        return [decode_entries(half, self._builder.latest) for half in halves]

    def _isolate(self, piece: Batch, why: DeadLetter, batch: Batch) -> list[Batch]:
        """The halves of a piece that can't be written. A single entry has none: it becomes a dead
        letter, or is split into its records.
        """
        if len(piece.entries) > 1:
            return self._halves(piece)
        (entry,) = piece.entries
        if piece.records > 1:
            batch.divisible.append(entry)
        else:
            batch.undecodable.append(Undecodable(entry, why))
        return []


def _take_newer(batch: Batch) -> int:
    """Removes the entries that need a newer release's flusher from a batch; returns how many."""
    others = [each for each in batch.undecodable if not isinstance(each.why, NewerVersion)]
    newer = len(batch.undecodable) - len(others)
    batch.undecodable[:] = others
    return newer
