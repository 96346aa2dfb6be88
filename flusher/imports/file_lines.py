"""Step 1 of an import: the lines of a file, whatever it is compressed with or encoded in.

A line ends where the line does, even within quotation marks: so what is damaged costs its own line,
and each line has the number that an editor shows. Memory stays flat, however long a line is.
"""

import bz2
import gzip
import lzma
import os
import stat
import sys
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Callable, Iterator
from io import BufferedIOBase, BufferedReader, IncrementalNewlineDecoder, RawIOBase
from typing import Final

LONGEST: Final = 65_536
"""Characters of a line; of a longer one so many and one more are given."""

STANDARD_INPUT: Final = "-"
_READ_AT_ONCE: Final = 1 << 18
_LOOKED_AT: Final = 8  # enough to know a compression or an encoding by
_COMPRESSIONS: Final[tuple[tuple[bytes, Callable[[BufferedReader], BufferedIOBase]], ...]] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)
_REFUSED: Final = (
    (b"PK\x03\x04", "is a spreadsheet or a ZIP file: save the sheet as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "is a spreadsheet: save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: zstdcat FILE | python -m flusher import -"),
    (b"PGDMP", "is a dump of PostgreSQL: pg_restore, then \\copy the table as CSV"),
)
_DAMAGED: Final = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError)


class NotReadable(ValueError):
    """The file is none that can be read; says why."""


class Damaged(ValueError):
    """Nothing can be read from here on; says why."""


class FileLines:
    """A file that is read once, from its beginning."""

    def __init__(self, path: str) -> None:
        """Opens it; `-` is standard input.

        Raises:
            OSError: it can't be opened.
        """
        named = path != STANDARD_INPUT
        self._raw = open(path if named else sys.stdin.fileno(), "rb", 0, closefd=named)  # noqa: SIM115 - a descriptor may be it; `lines` closes it
        found = os.fstat(self._raw.fileno())
        self.size: int | None = found.st_size if stat.S_ISREG(found.st_mode) else None
        """In bytes; None where nobody knows it, as of a pipe."""
        self._bytes = _Opened(self._raw.read)

    @property
    def read_bytes(self) -> int:
        """How far it was read: bytes of the file as it lies there."""
        return self._bytes.number

    def lines(self) -> Iterator[str]:
        """Each line without its end, which may be that of any system; once.

        Raises:
            NotReadable: it is another kind of file.
            Damaged: what is left of it can't be read.
        """
        with self._raw:
            try:
                begun = ""
                for text in _texts(self._bytes):
                    *lines, begun = (begun + text).split("\n")
                    yield from lines
                    begun = begun[: LONGEST + 1]
                if begun:
                    yield begun
            except _DAMAGED as error:
                raise Damaged(_why(error)) from None


class _Opened(RawIOBase):
    """A file whose first bytes can be looked at before they are read."""

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        """`read` gives what there is, up to so many bytes; none at the end."""
        super().__init__()
        self._read = read
        self._looked_at = b""
        self.number = 0
        """How many bytes were read."""

    def look(self) -> bytes:
        """The first bytes, as many as tell what it is. A pipe may give them one by one."""
        while len(self._looked_at) < _LOOKED_AT:
            more = self._read(_LOOKED_AT - len(self._looked_at))
            if not more:
                break
            self._looked_at += more
        return self._looked_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a Buffer, to the stubs, has no length
        octets = self._looked_at[: len(buffer)] or self._read(len(buffer)) or b""
        self._looked_at = self._looked_at[len(octets) :]
        buffer[: len(octets)] = octets
        self.number += len(octets)
        return len(octets)


def _texts(file: _Opened) -> Iterator[str]:
    """What there is, a part at a time; the line ends of any system are newlines in it."""
    first = file.look()
    for beginning, why in _REFUSED:
        if first.startswith(beginning):
            raise NotReadable(why)
    for beginning, decompress in _COMPRESSIONS:
        if first.startswith(beginning):
            # By what there is, so that what comes before a damage is not lost with it.
            file = _Opened(decompress(BufferedReader(file, _READ_AT_ONCE)).read1)
            break
    encoding, errors = _encoding(file.look())
    text = IncrementalNewlineDecoder(getincrementaldecoder(encoding)(errors), translate=True)
    while octets := file.read(_READ_AT_ONCE):
        yield text.decode(octets)
    yield text.decode(b"", final=True)


def _encoding(first: bytes) -> tuple[str, str]:
    """The encoding, and how what is not of it is read: as what can't be stored (lone surrogates),
    so that it is the fault of its line.
    """
    if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16", "surrogatepass"
    # Without a mark. The first letter is of ASCII: it is that of a column's name.
    if first[1:2] == b"\0":
        return "utf-16-le", "surrogatepass"
    if first[:1] == b"\0":
        return "utf-16-be", "surrogatepass"
    return "utf-8-sig", "surrogateescape"


def _why(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "its compressed data end too early"
    if isinstance(error, UnicodeError):
        return "its last character is not whole"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "its compressed data are damaged"
