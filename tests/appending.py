"""A record appended by a task that waits for it, as a test's story is told."""

import asyncio

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
