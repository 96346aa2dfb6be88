"""contract/entry.py: several records in one stream entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.entry import RECORDS_MAX, SEVERAL, count_records, join_records, split_entry
from contract.errors import DeadLetter
from contract.record import VERSION, encode
from tests.unit.events import STARTED, UPGRADED, events


@given(st.lists(events.map(encode), min_size=1, max_size=RECORDS_MAX))
def test_records_read_back(records: list[bytes]) -> None:
    content = join_records(records)
    assert list(split_entry(content)) == records
    assert count_records(content) == len(records)


def test_the_first_byte_shows_whether_there_are_several_records() -> None:
    """An entry of one is the record: entries of earlier releases are read as before."""
    one, other = encode(STARTED), encode(UPGRADED)
    assert join_records([one]) == one
    sizes = [len(each).to_bytes(2) for each in (one, other)]
    assert join_records([one, other]) == bytes((SEVERAL, 2)) + sizes[0] + one + sizes[1] + other
    assert SEVERAL not in {VERSION, one[0]}


def test_an_entry_that_is_cut_short_or_goes_on_is_a_dead_letter() -> None:
    several = join_records([encode(STARTED), encode(UPGRADED)])
    broken = [several[:length] for length in range(1, len(several))]
    for content in (*broken, several + b"\0", several + b"\x00\x01x", b"\2\1\0\1x", b"\2\0"):
        with pytest.raises(DeadLetter) as caught:
            split_entry(content)
        assert caught.value.reason == "undecodable"


@given(st.binary(max_size=100).map(lambda tail: bytes((SEVERAL,)) + tail))
def test_random_bytes_are_records_or_a_dead_letter(content: bytes) -> None:
    try:
        records = split_entry(content)
    except DeadLetter:
        return
    assert join_records(records) == content, "nothing of it is lost"


@pytest.mark.parametrize("count", [0, RECORDS_MAX + 1])
def test_an_entry_is_bounded(count: int) -> None:
    with pytest.raises(ValueError, match="an entry holds"):
        join_records([b"x"] * count)
    content = bytes((SEVERAL, count)) + b"\x00\x01x" * count
    with pytest.raises(DeadLetter):
        split_entry(content)
