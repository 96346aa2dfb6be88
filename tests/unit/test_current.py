"""flusher/rows/current.py: whose `current` takes which session."""

from datetime import UTC, datetime, timedelta

from asyncpg.pgproto.pgproto import UUID

from flusher.rows.current import OVERTAKING, Launch, UpgradeRequest, decide

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


def test_current_takes_the_newest_that_has_begun() -> None:
    assert took(wish(2.5, ANNA), launches=3) == {2: ANNA}


def test_it_may_be_handled_a_moment_before_the_start_that_it_follows() -> None:
    seconds = OVERTAKING.total_seconds() / 60
    assert took(wish(2 - seconds, ANNA), launches=2) == {2: ANNA}
    assert took(wish(2 - seconds - 0.1, ANNA), launches=2) == {1: ANNA}


def test_behind_one_address_asking_again_takes_no_strangers_session() -> None:
    """Five of five were taken, by one user who asked five times."""
    wishes = [wish(6 + number, ANNA) for number in range(5)]
    assert took(*wishes, launches=5) == {5: ANNA}
    _, repeats = decide(wishes, [launch(number) for number in range(1, 6)], {})
    assert repeats == {wish.id for wish in wishes[1:]}


def test_several_people_behind_one_address_each_get_one() -> None:
    assert took(wish(4, ANNA), wish(5, BEN), wish(6, CARA), wish(7, ANNA), launches=3) == {
        3: ANNA,
        2: BEN,
        1: CARA,
    }


def test_one_person_with_two_tabs_gets_each_launch_that_follows_the_last() -> None:
    """A tab that was opened before the one that was taken stays a visitor's: whose it is, nobody
    can tell.
    """
    assert took(wish(1.5, ANNA), wish(2.5, ANNA), launches=2) == {1: ANNA, 2: ANNA}
    assert took(wish(2.5, ANNA), wish(2.6, ANNA), launches=2) == {2: ANNA}


def test_a_launch_of_somebody_else_since_gives_no_older_session() -> None:
    """Ben's launch was taken by Ben: what Anna asks for again is still a repeat."""
    assert took(wish(2.5, ANNA), wish(3.5, BEN), wish(4, ANNA), launches=3) == {2: ANNA, 3: BEN}


def test_what_was_taken_by_id_counts_too() -> None:
    assert took(wish(5, ANNA, session=3), wish(6, ANNA), launches=3) == {3: ANNA}
    assert took(wish(5, ANNA, session=2), wish(6, ANNA), launches=3) == {2: ANNA, 3: ANNA}


def test_what_was_taken_before_counts_too() -> None:
    before = {ANNA: launch(3)}
    assert took(wish(5, ANNA), launches=2, taken=before) == {}
    assert took(wish(5, BEN), launches=2, taken=before) == {2: BEN}


def test_by_id_takes_its_session_only_while_it_is_anonymous() -> None:
    assert took(wish(2.5, ANNA), wish(3, BEN, session=2), launches=2) == {2: ANNA}


def test_ten_thousand_of_each_are_a_matter_of_milliseconds_and_not_of_their_product() -> None:
    """The work is counted: each session is put on the stack once, and taken off once."""
    users = [uuid(number) for number in range(10_000)]
    sessions = [launch(number) for number in range(10_000)]
    wishes = [
        UpgradeRequest(uuid(number), NOON + timedelta(days=30, seconds=number), user, None)
        for number, user in enumerate(users)
    ]
    takers, repeats = decide(wishes, sessions, {})
    assert (len(takers), len(repeats)) == (10_000, 0)
    takers, repeats = decide(wishes, sessions, dict.fromkeys(users, launch(10_000)))
    assert (len(takers), len(repeats)) == (0, 10_000)
