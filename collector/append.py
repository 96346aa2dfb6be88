"""Step 7: the event into its stream, durable when this returns."""

import asyncio

from collector.node_writer import Answered, NodeWriter, Waiting
from collector.wire import pack
from contract import keys
from contract.errors import Retry
from contract.record import FIELD


class Appender:
    """Appends records to the stream shards. Use `run` as a task for as long as it may be used."""

    def __init__(self, writer: NodeWriter, shards: int) -> None:
        """
        Args:
            writer: of the server that has the streams.
            shards: how many streams there are.
        """
        self._writer = writer
        self._shards = [(writer, _xadd_to(keys.stream(shard))) for shard in range(shards)]

    def begin(self, identity: bytes, record: bytes, answered: Answered) -> Waiting:
        """Appends a record; `answered` is called, once, when it is known what became of it.

        Args:
            identity: the 16 bytes that choose the shard.
            record: from `contract.record.encode`.
            answered: gets None once Redis has acknowledged it; Retry when that took longer than
                `WAIT_SECONDS`, or Redis is full or refuses it. It may have been stored all the
                same; a repeat with the same id counts once.

        Raises:
            Retry: too many wait already.
        """
        writer, xadd = self._shards[keys.shard_of(identity, len(self._shards))]
        return writer.write(b"%b$%d\r\n%b\r\n" % (xadd, len(record), record), answered)

    async def append(self, identity: bytes, record: bytes) -> None:
        """Returns once Redis has acknowledged the record.

        Raises:
            Retry: as in `begin`.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(error: Retry | None) -> None:
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)

        waiting = self.begin(identity, record, answered)
        try:
            await stored
        finally:
            waiting.is_over = True  # a request that went away is not written, if it was not yet

    @property
    def failing_since(self) -> float | None:
        """Since when, in the loop's time, no write has succeeded; None when the last one did."""
        return self._writer.failing_since

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be acknowledged."""
        return self._writer.idle

    async def run(self) -> None:
        """Writes what gathers, until cancelled."""
        await self._writer.run()


def _xadd_to(stream: str) -> bytes:
    """`XADD stream * e`, packed but for its last word, the record."""
    words = (b"XADD", stream.encode(), b"*", FIELD)
    return pack(*words).replace(b"*%d" % len(words), b"*%d" % (len(words) + 1), 1)
