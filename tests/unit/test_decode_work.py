"""The work of decoding, counted in calls. More calls are a slower flusher, on any machine."""

import sys
from collections import Counter
from dataclasses import replace
from types import FrameType

import pytest

from contract.entry import join_records
from contract.record import Event, encode
from flusher.rows.batch import Batch, decode_entries
from flusher.rows.copy_format import copy_source
from flusher.rows.entry import Entry
from tests.unit.events import NOVEMBER, STARTED, UPGRADED

COUNT = 960


def calls(events: list[Event], together: int) -> dict[str, float]:
    """Calls for each record, of Python functions ("call") and of C functions ("c_call")."""
    records = [encode(event) for event in events]
    entries = [
        Entry(0, b"1-1", join_records(records[first : first + together]))
        for first in range(0, len(records), together)
    ]
    counted: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        counted[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        batch: Batch = decode_entries(entries, NOVEMBER)
        copy_source(batch.starts.values())
    finally:
        sys.setprofile(before)
    assert batch.records == COUNT
    return {event: round(count / COUNT, 1) for event, count in counted.items()}


@pytest.mark.parametrize(
    ("together", "python", "c"), [(32, 0.2, 4.5), (8, 0.5, 5.2), (1, 3.1, 8.5)]
)
def test_a_session_takes_a_few_calls_of_c_and_none_of_python(
    together: int, python: float, c: float
) -> None:
    counted = calls([replace(STARTED, id=n.to_bytes(16, "big")) for n in range(COUNT)], together)
    assert counted["call"] <= python
    assert counted["c_call"] <= c


def test_an_upgrade_takes_a_few_calls() -> None:
    counted = calls([replace(UPGRADED, id=n.to_bytes(16, "big")) for n in range(COUNT)], 32)
    assert counted["call"] <= 6.2
    assert counted["c_call"] <= 7.5
