"""collector/buffer/entries.py: each record is in one entry, in its own stream."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ExecAbortError, OutOfMemoryError, RedisError, ResponseError

from collector.buffer.entries import EntryPacker, PackedEntry, refusal
from collector.buffer.pending import PendingRecord
from contract import keys
from contract.entry import RECORDS_MAX, split_entry
from contract.record import FIELD, encode
from tests.appending import parse_commands
from tests.unit.events import events

OOM = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key")

batches = st.lists(
    st.tuples(events.map(encode), st.integers(0, 3)).map(
        lambda pair: PendingRecord(*pair, 0.0, lambda _: None)
    ),
    max_size=200,
)


def parse(entry: PackedEntry) -> list[list[bytes]]:
    """An entry's commands, as a server reads them."""
    commands = parse_commands(entry.commands)
    assert len(commands) == entry.replies
    return commands


def content_of(entry: PackedEntry) -> tuple[str, bytes]:
    """The stream and the content of what is appended, in one transaction with its count."""
    commands = parse(entry)
    names = [command[0] for command in commands]
    if len(entry.pending) > 1:
        assert names == [b"MULTI", b"XADD", b"INCRBY", b"EXEC"]
        joined = keys.joined(entry.pending[0].shard).encode()
        assert commands[2][1:] == [joined, b"%d" % (len(entry.pending) - 1)]
        del commands[2:], commands[0]
    ((name, stream, id_, field, content),) = commands
    assert (name, id_, field) == (b"XADD", b"*", FIELD)
    return stream.decode(), content


@given(batch=batches, together=st.booleans())
def test_each_record_is_once_in_an_entry_of_its_own_stream(
    *, batch: list[PendingRecord], together: bool
) -> None:
    entries = EntryPacker().pack(batch, together=together)
    written = Counter[tuple[str, bytes]]()
    for entry in entries:
        stream, content = content_of(entry)
        records = split_entry(content)
        assert list(records) == [pending.record for pending in entry.pending]
        assert len(records) <= RECORDS_MAX
        written.update((stream, record) for record in records)
    assert written == Counter((keys.stream(each.shard), each.record) for each in batch)
    assert Counter(w for e in entries for w in e.pending) == Counter(batch)


@given(batches)
def test_a_shards_records_share_as_few_entries_as_hold_them(batch: list[PendingRecord]) -> None:
    shards = Counter(each.shard for each in batch)
    entries = EntryPacker().pack(batch, together=True)
    assert len(entries) == sum(-(-count // RECORDS_MAX) for count in shards.values())
    assert len(EntryPacker().pack(batch, together=False)) == len(batch)


def test_asking_precedes_each_record_for_a_node_that_takes_over_a_slot() -> None:
    batch = [PendingRecord(b"record", 0, 0.0, lambda _: None)] * 2
    entries = EntryPacker(asking=True).pack(batch, together=True)
    assert [[command[0] for command in parse(entry)] for entry in entries] == [
        [b"ASKING", b"XADD"]
    ] * 2


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
