"""flusher/rows/current.py: which session an upgrade of `current` takes."""

from datetime import UTC, datetime, timedelta

import pytest
from asyncpg.pgproto.pgproto import UUID

from flusher.rows.current import Launch, UpgradeRequest, decide

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
ANNA, BEN, CARA = (UUID(bytes([0xC0 + n]) * 16) for n in range(3))


def uuid(number: int) -> UUID:
    return UUID(number.to_bytes(16))


def launch(number: int) -> Launch:
    """A session that began so many minutes after noon."""
    return NOON + timedelta(minutes=number), uuid(number)


def wish(number: float, user: UUID, session: int | None = None) -> UpgradeRequest:
    """An upgrade so many minutes after noon."""
    named = None if session is None else uuid(session)
    at = NOON + timedelta(minutes=number)
    return UpgradeRequest(uuid(0xD000 + int(number * 60)), at, user, named)


def took(
    *wishes: UpgradeRequest, launches: int, taken: dict[UUID, Launch] | None = None
) -> dict[int, UUID]:
    """Who took which of so many launches, a minute apart."""
    sessions = [launch(number) for number in range(1, launches + 1)]
    takers, _ = decide(wishes, sessions, taken or {})
    return {session.int: taker.user_hash for session, taker in takers.items()}


MOMENT = 10 / 60  # an upgrade may be handled before the start it follows


# How many launches there are, the upgrades, and who takes which launch.
CASES = {
    "the newest that has begun": (3, [wish(2.5, ANNA)], {2: ANNA}),
    "it overtakes the start": (2, [wish(2 - MOMENT, ANNA)], {2: ANNA}),
    "too early for the start": (2, [wish(1.9 - MOMENT, ANNA)], {1: ANNA}),
    "a repeat takes no stranger's": (5, [wish(6 + n, ANNA) for n in range(5)], {5: ANNA}),
    "several people behind one address get one each": (
        3,
        [wish(4, ANNA), wish(5, BEN), wish(6, CARA), wish(7, ANNA)],
        {3: ANNA, 2: BEN, 1: CARA},
    ),
    "a second tab, later": (2, [wish(1.5, ANNA), wish(2.5, ANNA)], {1: ANNA, 2: ANNA}),
    # Nobody can know whose the tab was that was opened before the one that was taken.
    "a second tab, earlier": (2, [wish(2.5, ANNA), wish(2.6, ANNA)], {2: ANNA}),
    # Ben took his own session: what Anna asks for again is still a repeat.
    "another's session in between": (
        3,
        [wish(2.5, ANNA), wish(3.5, BEN), wish(4, ANNA)],
        {2: ANNA, 3: BEN},
    ),
    "taken by id, the newest": (3, [wish(5, ANNA, 3), wish(6, ANNA)], {3: ANNA}),
    "taken by id, an older one": (3, [wish(5, ANNA, 2), wish(6, ANNA)], {2: ANNA, 3: ANNA}),
    "an older one by id in between": (
        3,
        [wish(4, ANNA), wish(5, ANNA, 1), wish(6, ANNA)],
        {3: ANNA, 1: ANNA},
    ),
    "by id only while it is anonymous": (2, [wish(2.5, ANNA), wish(3, BEN, 2)], {2: ANNA}),
}


@pytest.mark.parametrize(("launches", "wishes", "expected"), CASES.values(), ids=CASES)
def test_an_upgrade_of_current_takes(
    launches: int, wishes: list[UpgradeRequest], expected: dict[int, UUID]
) -> None:
    assert took(*wishes, launches=launches) == expected


def test_what_was_taken_in_an_earlier_batch_counts_too() -> None:
    before = {ANNA: launch(3)}
    assert took(wish(5, ANNA), launches=2, taken=before) == {}
    assert took(wish(5, BEN), launches=2, taken=before) == {2: BEN}
