"""collector/buffer/entries.py: whether an entry was appended, by the replies to its commands."""

from typing import Any

import pytest
from redis.exceptions import ExecAbortError, OutOfMemoryError, RedisError, ResponseError

from collector.buffer.entries import refusal

OOM = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key")


@pytest.mark.parametrize(
    ("replies", "refused"),
    [
        ([b"1-0"], None),
        ([OOM], OOM),
        ([b"OK", b"1-0"], None),
        ([b"OK", b"QUEUED", b"QUEUED", [b"1-0", 7]], None),
        ([b"OK", OOM, b"QUEUED", ExecAbortError("discarded")], OOM),
        # The entry is there: only what counts it was refused.
        ([b"OK", b"QUEUED", b"QUEUED", [b"1-0", WRONG_TYPE]], None),
        ([b"OK", b"QUEUED", b"QUEUED", [WRONG_TYPE, 7]], WRONG_TYPE),
    ],
)
def test_an_entry_was_appended_unless_its_xadd_was_refused(
    replies: list[Any], refused: RedisError | None
) -> None:
    assert refusal(replies) is refused
