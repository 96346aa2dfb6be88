"""Step 1 of an import: the lines of a file, decompressed and decoded.

A line ends at its line break, even within quotation marks. So damage costs only its own line, and
each line has the number that an editor shows. Memory stays constant, even if a line is very long.
"""

import os
import stat
import sys
import zlib
from bz2 import BZ2File
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Callable, Iterator
from gzip import GzipFile
from io import BufferedReader, IncrementalNewlineDecoder
from lzma import LZMAError, LZMAFile
from typing import Final, TypeAlias

LONGEST: Final = 65_536
"""The most characters of a line. Of a longer one only the first `LONGEST + 1` are given."""

STANDARD_INPUT: Final = "-"
_READ_AT_ONCE: Final = 1 << 18
_Decompressed: TypeAlias = BufferedReader | GzipFile | BZ2File | LZMAFile
_COMPRESSIONS: Final[tuple[tuple[bytes, Callable[[BufferedReader], _Decompressed]], ...]] = (
    (b"\x1f\x8b", lambda file: GzipFile(fileobj=file)),
    (b"BZh", BZ2File),
    (b"\xfd7zXZ\0", LZMAFile),
)
_REFUSED: Final = (
    (b"PK\x03\x04", "is a spreadsheet or a ZIP file: save the sheet as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "is a spreadsheet: save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: zstdcat FILE | python -m flusher import -"),
    (b"PGDMP", "is a dump of PostgreSQL: pg_restore, then \\copy the table as CSV"),
)
_DAMAGED: Final = (OSError, EOFError, zlib.error, LZMAError, UnicodeError)


class Unreadable(ValueError):
    """The file, or the rest of it, can't be read; the message says why."""


class FileLines:
    """A file that is read once, from its beginning."""

    def __init__(self, path: str) -> None:
        """Opens it; `-` is standard input.

        Raises:
            OSError: it can't be opened.
        """
        named = path != STANDARD_INPUT
        self._raw = open(path if named else sys.stdin.fileno(), "rb", 0, closefd=named)  # noqa: SIM115 - `lines` closes it
        found = os.fstat(self._raw.fileno())
        self.size: int | None = found.st_size if stat.S_ISREG(found.st_mode) else None
        """In bytes; None if it is unknown, as for a pipe."""
        self.read_bytes = 0
        """How many bytes of the file were read, before decompression; 0 while `size` is None."""

    def lines(self) -> Iterator[str]:
        """Each line, without its line break (LF, CR LF or CR). May be called once.

        Raises:
            Unreadable: it is another kind of file, or the rest of it is damaged.
        """
        with self._raw:
            try:
                file = _decompressed(BufferedReader(self._raw, _READ_AT_ONCE))
                encoding, errors = _encoding(file.peek(2))
                decoder = getincrementaldecoder(encoding)(errors)
                text = IncrementalNewlineDecoder(decoder, translate=True)
                begun, at_end = "", False
                while not at_end:
                    # `read1` returns what is there, so that everything before a damage is read.
                    octets = file.read1(_READ_AT_ONCE)
                    at_end = not octets
                    if self.size is not None:
                        self.read_bytes = self._raw.tell()
                    *lines, begun = (begun + text.decode(octets, final=at_end)).split("\n")
                    yield from lines
                    begun = begun[: LONGEST + 1]
                if begun:
                    yield begun
            except _DAMAGED as error:
                raise Unreadable(_why(error)) from None


def _decompressed(file: BufferedReader) -> _Decompressed:
    first = file.peek()
    for beginning, why in _REFUSED:
        if first.startswith(beginning):
            raise Unreadable(why)
    for beginning, decompress in _COMPRESSIONS:
        if first.startswith(beginning):
            return decompress(file)
    return file


def _encoding(first: bytes) -> tuple[str, str]:
    """The encoding, and its error handler: wrong bytes become lone surrogates, which no column may
    have, so that only their own line is wrong.
    """
    if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16", "surrogatepass"
    # UTF-16 without a byte order mark: the first character, of a column's name, is ASCII.
    if first[1:2] == b"\0":
        return "utf-16-le", "surrogatepass"
    if first[:1] == b"\0":
        return "utf-16-be", "surrogatepass"
    return "utf-8-sig", "surrogateescape"


def _why(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "its compressed data end too early"
    if isinstance(error, UnicodeError):
        return "its last character is incomplete"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "its compressed data are damaged"
