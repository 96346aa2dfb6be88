"""collector/buffer/entries.py: each record is in one entry, in its own stream."""

from typing import Any

import pytest
from redis.exceptions import ExecAbortError, OutOfMemoryError, RedisError, ResponseError

from collector.buffer.entries import EntryPacker, refusal
from collector.buffer.pending import PendingRecord
from tests.appending import parse_commands

OOM = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key")


def test_asking_precedes_each_record_for_a_node_that_takes_over_a_slot() -> None:
    batch = [PendingRecord(b"record", 0, 0.0, lambda _: None, asking=True) for _ in range(2)]
    entries = EntryPacker().pack(batch, together=True)
    commands = [parse_commands(entry.commands) for entry in entries]
    assert [[word for word, *_ in each] for each in commands] == [[b"ASKING", b"XADD"]] * 2


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
