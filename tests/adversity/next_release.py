"""`python -m tests.adversity.next_release MODULE`: a process of a release whose record has changed.

It writes the record's next version, and reads that and today's.
"""

import runpy
import sys
from collections.abc import Sequence

from contract import entry
from contract import record as today
from contract.calendar import Month

_encode, _encode_started, _split = today.encode, today.encode_started, entry.split_entry
NEXT = bytes([today.NEXT_VERSION])
TODAY = bytes([today.VERSION])


def _encode_next(event: today.Event) -> bytes:
    return NEXT + _encode(event)[1:]


def _encode_next_start(
    id_: bytes, month: Month, at_us: int, site: str, monthly_user_hash: bytes, role: str | None
) -> bytes:
    return NEXT + _encode_started(id_, month, at_us, site, monthly_user_hash, role)[1:]


def _split_both(content: bytes) -> Sequence[bytes]:
    return _split(TODAY + content[1:] if content[:1] == NEXT else content)


if __name__ == "__main__":
    today.encode, today.encode_started = _encode_next, _encode_next_start
    entry.split_entry = _split_both
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")
