"""`python -m tests.adversity.next_release MODULE`: a process of a release whose record has changed.

It writes the record's next version, and reads that and today's.
"""

import runpy
import sys

from contract import record as today
from contract.calendar import Month

_encode, _encode_started, _decode = today.encode, today.encode_started, today.decode
NEXT = bytes([today.NEXT_VERSION])
TODAY = bytes([today.VERSION])


def _encode_next(event: today.Event) -> bytes:
    return NEXT + _encode(event)[1:]


def _encode_next_start(
    id_: bytes, month: Month, at_us: int, site: str, monthly_user_hash: bytes, role: str | None
) -> bytes:
    return NEXT + _encode_started(id_, month, at_us, site, monthly_user_hash, role)[1:]


def _decode_both(record: bytes) -> today.Event:
    return _decode(TODAY + record[1:] if record[:1] == NEXT else record)


if __name__ == "__main__":
    today.encode, today.encode_started = _encode_next, _encode_next_start
    today.decode = _decode_both
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")
