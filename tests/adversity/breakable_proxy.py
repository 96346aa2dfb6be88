"""A TCP proxy between two programs that can be broken, on this event loop."""

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from typing import Self

from tests.system import until

_CHUNK = 65536


class Fault(Enum):
    """What a broken proxy does."""

    STALL = auto()  # nothing arrives any more, and no connection ends
    RESET = auto()  # every connection ends with RST, and every new one
    TRUNCATE = auto()  # what is on its way is cut in the middle, then the connection ends


class BreakableProxy:
    """Passes bytes on to a port of this machine, until it is broken and after it is mended."""

    port = 0  # where it listens

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._fault: Fault | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._mended = asyncio.Event()
        self._mended.set()

    def lead_to(self, port: int) -> None:
        """From here on new connections lead there, as when a name or an address has moved."""
        self._to_port = port

    def cut(self, fault: Fault) -> None:
        """Breaks it for all connections, those that exist and those to come."""
        self._fault = fault
        self._mended.clear()
        if fault is Fault.RESET:
            self._reset_all()

    def mend(self) -> None:
        """New connections work again; those that were cut are gone."""
        self._fault = None
        self._reset_all()
        self._mended.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.mend()
        await until(lambda: not self._writers)

    def _reset_all(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._fault in (Fault.RESET, Fault.TRUNCATE):
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            self._writers.add(far_writer)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(reader, far_writer))
                    group.create_task(self._pass_on(far_reader, writer))
            finally:
                self._writers.discard(far_writer)
                _reset(far_writer)
        except* (OSError, EOFError):
            pass
        finally:
            self._writers.discard(writer)
            _reset(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            if self._fault is Fault.STALL:
                await self._mended.wait()
            elif self._fault is Fault.TRUNCATE:
                writer.write(chunk[: len(chunk) // 2])
                with suppress(OSError):
                    await writer.drain()
                raise EOFError
            writer.write(chunk)
            await writer.drain()
        raise EOFError


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
