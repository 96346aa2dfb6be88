"""flusher/stream/portions.py: how many entries are written at once if some take too long."""

from flusher.rows.entry import Entry
from flusher.stream.portions import Portions

ENTRY = Entry(0, b"1-0", b"")


def test_portions_that_take_too_long_are_halved_down_to_one_and_grow_again() -> None:
    portions = Portions()
    assert not portions.is_too_large(10_000)
    for entries in (10_000, 5_000, 2_500):
        portions.took_too_long(entries)
        assert portions.is_too_large(entries)
        assert not portions.is_too_large(entries // 2)
        assert portions.are_tried_briefly(entries // 2)
    portions.took_too_long(1)
    assert not portions.is_too_large(1)
    for power in range(20):
        portions.stored(2**power)
    assert not portions.is_too_large(10_000)
    assert not portions.are_tried_briefly(10_000)
    portions.took_too_long(2)
    assert not portions.are_tried_briefly(1), "a single entry gets the full time"


def test_many_slow_portions_in_a_row_are_the_servers_fault() -> None:
    portions = Portions()
    for _ in range(5):
        portions.took_too_long(100)
        assert not portions.are_in_vain
    portions.took_too_long(100)
    assert portions.are_in_vain
    portions.stored(1)
    assert not portions.are_in_vain


def test_an_entry_is_hopeless_when_others_were_stored_between_its_two_tries() -> None:
    portions = Portions()
    portions.took_too_long(1)
    assert not portions.is_hopeless(ENTRY)
    assert not portions.is_hopeless(ENTRY), "nothing else was stored, either"
    portions.stored(1)
    assert portions.is_hopeless(ENTRY)
    assert not portions.is_hopeless(ENTRY), "it may be another entry with that id"
