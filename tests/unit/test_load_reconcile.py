"""The comparison of what was told with what is stored."""

from dataclasses import replace
from datetime import UTC, date

import pytest

from bench.load.people import role_of
from bench.load.reconcile import CLOCK_TOLERANCE_US, Row, compare
from bench.load.sent_log import Outcome, SentLog, Who
from contract.calendar import DAY_US, SECOND_US

NOON = 1_793_880_000 * SECOND_US  # 2026-11-05 12:00 UTC
MONTH = date(2026, 11, 1)
VISITOR_HASH, USER_HASH, OTHER_HASH = b"v" * 16, b"u" * 16, b"o" * 16


class Story:
    """A visitor's session (0), one that was upgraded (1), a user's (2), a crawler's (3)."""

    def __init__(self) -> None:
        self.sent_log = SentLog(("a.example.org", "b.example.org"), role_of)
        for who in (Who.VISITOR, Who.VISITOR, Who.USER, Who.CRAWLER):
            number = self.sent_log.session(who, 0, 7, 1, NOON)
            self.sent_log.start_sent(number, NOON)
            self.sent_log.start_answered(number, 204 if who is Who.CRAWLER else 201, NOON + 1000)
        self.sent_log.upgrade_sent(1, NOON + 2000)
        self.sent_log.upgrade_answered(1, 202, NOON + 3000)
        self.rows = [
            self.row(0, VISITOR_HASH),
            self.row(1, USER_HASH, "admin", NOON + 2500),
            self.row(2, USER_HASH, "admin"),
        ]

    def row(
        self, number: int, hash_: bytes, role: str | None = None, upgraded_us: int | None = None
    ) -> Row:
        id_ = self.sent_log.id_of(number)
        return Row(id_, MONTH, "a.example.org", hash_, role, NOON + 500, upgraded_us)


def differences(story: Story) -> dict[str, int]:
    found = compare(story.sent_log, story.rows, UTC)
    names = ("lost", "twice", "invented", "wrong", "misjudged")
    counts = {name: getattr(found, name) for name in names if getattr(found, name)}
    assert found.exact == (not counts)
    assert bool(found.reasons) == bool(counts)
    return counts


def test_what_was_told_is_what_is_there() -> None:
    story = Story()
    assert differences(story) == {}
    found = compare(story.sent_log, story.rows, UTC)
    assert (found.expected, found.found, found.settled) == (3, 3, True)
    assert story.sent_log.expected() == (3, 1)


def test_a_row_that_is_not_there_is_lost() -> None:
    story = Story()
    del story.rows[0]
    assert differences(story) == {"lost": 1}
    assert not compare(story.sent_log, story.rows, UTC).settled


def test_a_row_of_another_month_with_the_same_id_is_twice() -> None:
    story = Story()
    story.rows.insert(1, replace(story.rows[0], month=date(2026, 12, 1)))
    assert differences(story) == {"twice": 1}


def test_a_crawlers_row_is_invented() -> None:
    story = Story()
    story.rows.append(story.row(3, OTHER_HASH))
    assert differences(story) == {"invented": 1}


def test_an_id_that_was_never_sent_is_invented() -> None:
    story = Story()
    unknown = story.sent_log.id_of(0)[:-4] + (99).to_bytes(4, "big")
    story.rows.append(replace(story.rows[0], id=unknown))
    other_time = bytes(8) + story.sent_log.id_of(0)[8:]
    story.rows.append(replace(story.rows[0], id=other_time))
    assert differences(story) == {"invented": 2}


@pytest.mark.parametrize(
    ("which", "change"),
    [
        (0, {"site": "b.example.org"}),
        (0, {"month": date(2026, 10, 1)}),
        (0, {"created_us": NOON + 1000 + CLOCK_TOLERANCE_US + 1}),
        (0, {"created_us": NOON - CLOCK_TOLERANCE_US - 1}),
        (0, {"role": "admin"}),
        (0, {"upgraded_us": NOON + 500, "role": "admin"}),
        (1, {"role": "user"}),
        (1, {"upgraded_us": NOON + DAY_US}),
        (1, {"upgraded_us": None, "role": None}),
        (1, {"hash": OTHER_HASH}),  # two for one user
        (2, {"role": None}),
        (2, {"upgraded_us": NOON + 500}),
        (0, {"hash": USER_HASH}),  # one for a visitor and a user
    ],
)
def test_a_column_that_differs_is_wrong(which: int, change: dict[str, object]) -> None:
    story = Story()
    story.rows[which] = replace(story.rows[which], **change)  # type: ignore[arg-type]
    assert differences(story) == {"wrong": 1}


def test_what_was_told_to_be_upgraded_and_is_not_has_not_settled() -> None:
    story = Story()
    story.rows[1] = story.row(1, VISITOR_HASH)
    found = compare(story.sent_log, story.rows, UTC)
    assert (found.wrong, found.not_upgraded, found.settled) == (1, 1, False)


def test_one_visitor_has_two_hashes_only_on_two_sites() -> None:
    story = Story()
    for site, hash_ in ((1, OTHER_HASH), (0, VISITOR_HASH)):
        number = story.sent_log.session(Who.VISITOR, site, 7, 0, NOON)
        story.sent_log.start_sent(number, NOON)
        story.sent_log.start_answered(number, 201, NOON + 1000)
        row = replace(story.row(number, hash_), site=story.sent_log.sites[site])
        story.rows.append(row)
    assert differences(story) == {}
    story.rows[-1] = replace(story.rows[-1], hash=b"x" * 16)
    assert differences(story) == {"wrong": 1}


def test_without_an_answer_a_row_may_be_there_or_not_but_not_twice() -> None:
    for status in (None, 503):
        story = Story()
        number = story.sent_log.session(Who.VISITOR, 0, 7, 0, NOON)
        story.sent_log.start_sent(number, NOON)
        story.sent_log.start_answered(number, status, NOON + 1000)
        assert differences(story) == {}
        story.rows.append(story.row(number, VISITOR_HASH))
        assert differences(story) == {}
        found = compare(story.sent_log, story.rows, UTC)
        assert (found.expected, found.found, found.unanswered_found) == (3, 4, 1)
        story.rows.append(replace(story.rows[-1], month=date(2026, 12, 1)))
        assert differences(story) == {"twice": 1}


def test_an_upgrade_without_an_answer_may_be_there_or_not_but_not_halfway() -> None:
    story = Story()
    story.sent_log.upgrade_sent(0, NOON)
    story.sent_log.upgrade_answered(0, None, NOON + 1000)
    assert differences(story) == {}
    story.rows[0] = story.row(0, USER_HASH, "admin", NOON + 10)
    assert differences(story) == {}
    story.rows[0] = story.row(0, VISITOR_HASH, "admin", None)
    assert differences(story) == {"wrong": 1}


def test_a_repeat_that_was_refused_takes_nothing_back() -> None:
    story = Story()
    story.sent_log.start_answered(0, 503, NOON + 5000)
    assert story.sent_log.start_outcome(0) is Outcome.ACCEPTED
    assert story.sent_log.start_window_us(0) == (NOON, NOON + 1000)


@pytest.mark.parametrize(("number", "status"), [(0, 204), (0, 403), (3, 201)])
def test_an_answer_that_is_not_the_right_one_is_a_difference(number: int, status: int) -> None:
    story = Story()
    story.sent_log.start_answered(number, status, NOON + 1000)
    assert compare(story.sent_log, story.rows, UTC).misjudged == 1


def test_an_upgrade_of_a_later_month_keeps_the_visitors_hash() -> None:
    story = Story()
    december = NOON + 30 * DAY_US
    number = story.sent_log.session(Who.VISITOR, 0, 7, 1, NOON)
    story.sent_log.start_sent(number, NOON)
    story.sent_log.start_answered(number, 201, NOON + 1000)
    story.sent_log.upgrade_sent(number, december)
    story.sent_log.upgrade_answered(number, 202, december + 1000)
    story.rows.append(story.row(number, VISITOR_HASH, "admin", december + 500))
    assert differences(story) == {}
    story.rows[-1] = replace(story.rows[-1], hash=USER_HASH)
    assert differences(story) == {"wrong": 1}


def test_an_id_is_a_uuid7_of_the_run() -> None:
    story = Story()
    id_ = story.sent_log.id_of(2)
    assert int.from_bytes(id_[:6], "big") == NOON // 1000
    assert id_[6] >> 4 == 7
    assert id_[8] >> 6 == 2
    assert id_[8:12] == story.sent_log.tag
    assert story.sent_log.number_of(id_) == 2
    first, last = story.sent_log.id_bounds(60)
    assert first < id_ < last
