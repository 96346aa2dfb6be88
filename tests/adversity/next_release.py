"""`python -m tests.adversity.next_release MODULE`: a process of a release whose record has changed.

It writes the record's next version, and reads that and today's.
"""

import runpy
import sys

from contract import record as today

_encode, _decode = today.encode, today.decode
NEXT = bytes([today.VERSION + 1])
TODAY = bytes([today.VERSION])


def _encode_next(event: today.Event) -> bytes:
    return NEXT + _encode(event)[1:]


def _decode_both(record: bytes) -> today.Event:
    return _decode(TODAY + record[1:] if record[:1] == NEXT else record)


if __name__ == "__main__":
    today.encode, today.decode = _encode_next, _decode_both
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")
