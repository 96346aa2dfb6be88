"""Where in the memory of live processes the bytes of a salt are, in any form they travel in."""

import base64
import ctypes
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

# A piece of this many bytes is taken for the salt's; one of them begins at every so many bytes, so
# that no piece of eleven is missed.
_PIECE: Final = 8
_STEP: Final = 4
_CHUNK: Final = 256 * 1024
_OVERLAP: Final = 64
_ZEROS: Final = bytes(_CHUNK + _OVERLAP)


def pieces(salt: bytes, pid: int) -> Counter[str]:
    """How often pieces of a salt are in a process's memory, by their form and place in the salt.

    Raises:
        OSError: its memory can't be read.
    """
    needles = _needles(salt)
    found: Counter[str] = Counter()
    for chunk in _memory(pid):
        for needle, name in needles.items():
            if count := chunk.count(needle):
                found[name] += count
    return found


def _needles(salt: bytes) -> dict[bytes, str]:
    """Bytes that tell of a piece of a salt, with the name of what they are."""
    forms = {
        "raw": salt,
        # What HMAC (RFC 2104) makes of its key.
        "inner key": bytes(byte ^ 0x36 for byte in salt),
        "outer key": bytes(byte ^ 0x5C for byte in salt),
    }
    starts = range(0, len(salt) - _PIECE + 1, _STEP)
    needles = {
        form[at : at + _PIECE]: f"{name} {at}" for name, form in forms.items() for at in starts
    }
    for at in starts[::2]:
        digits = salt[at : at + _PIECE].hex()
        needles[digits.encode()] = needles[digits.upper().encode()] = f"hex {at}"
    for at in range(3):
        text = base64.b64encode(salt[at : at + (len(salt) - at) // 3 * 3])
        needles[text[:16]] = f"base64 {at}"
        needles[text[-16:]] = f"base64 {at}, its end"
    return needles


def _memory(pid: int) -> Iterator[bytes]:
    """What a process can write to and has, in chunks that overlap by more than a needle."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            bounds, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            for at in range(start, end, _CHUNK):
                chunk = b""
                with suppress(OSError):  # given back meanwhile
                    memory.seek(at)
                    chunk = memory.read(min(_CHUNK + _OVERLAP, end - at))
                if chunk != _ZEROS[: len(chunk)]:
                    yield chunk


def _why_not() -> str:
    """Why no process's memory can be read here; "": it can."""
    marker = ctypes.create_string_buffer(bytes(range(1, 33)))
    try:
        with Path(f"/proc/{os.getpid()}/mem").open("rb", 0) as memory:
            memory.seek(ctypes.addressof(marker))
            found = memory.read(len(marker))
    except OSError as error:
        return f"the memory of a process can't be read here: {error}"
    return "" if found == marker.raw else "what was read is not what this process has in memory"


_WHY_NOT: Final = _why_not()
needs_memory = pytest.mark.skipif(_WHY_NOT != "", reason=_WHY_NOT)
