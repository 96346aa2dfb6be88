"""For tests of what is appended: a task that waits for its record, and the commands sent."""

import asyncio

import hiredis

from collector.buffer.append import Appender
from contract.errors import Retry


async def append(appender: Appender, identity: bytes, record: bytes) -> None:
    """Returns once the record is stored.

    Raises:
        Retry: as `Appender.append` says.
    """
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(error: Retry | None) -> None:
        if stored.done():  # the test waits no more
            return
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)

    appender.append(identity, record, answered)
    await stored


def parse_commands(sent: bytes) -> list[list[bytes]]:
    """The words of each command, as a server reads them."""
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(sent)
    return list(iter(reader.gets, None))
