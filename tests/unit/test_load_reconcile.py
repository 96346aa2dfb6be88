"""bench/load/reconcile.py: the comparison of the answers with the stored rows.

`tests/integration/test_load.py` has lost, doubled and invented rows of a real database.
"""

from dataclasses import replace
from datetime import UTC, date

import pytest

from bench.load.reconcile import CLOCK_TOLERANCE_US, Row, compare
from bench.load.sent_log import Outcome, SentLog, Session, Who
from contract.calendar import DAY_US, SECOND_US

NOON = 1_793_880_000 * SECOND_US  # 2026-11-05 12:00 UTC
MONTH = date(2026, 11, 1)
VISITOR_HASH, USER_HASH, OTHER_HASH = b"v" * 16, b"u" * 16, b"o" * 16


class Story:
    """A visitor's session (0), one that was upgraded (1), a user's (2), a crawler's (3)."""

    def __init__(self) -> None:
        self.sent_log = SentLog()
        for who in (Who.VISITOR, Who.VISITOR, Who.USER, Who.CRAWLER):
            self.start(who, answer=204 if who is Who.CRAWLER else 201)
        visitor, upgraded, user, _ = self.sent_log.sessions
        self.upgrade(upgraded, NOON + 2000)
        self.rows = [
            self.row(visitor, VISITOR_HASH),
            self.row(upgraded, USER_HASH, "admin", NOON + 2500),
            self.row(user, USER_HASH, "admin"),
        ]

    def start(
        self, who: Who = Who.VISITOR, site: str = "a.example.org", answer: int | None = 201
    ) -> Session:
        """Another session at noon; `answer` None: no answer."""
        session = self.sent_log.add(NOON, who, site, 7, 1, "admin")
        session.start.sent(NOON)
        session.start.answered(answer, NOON + 1000)
        return session

    def upgrade(self, session: Session, at_us: int, answer: int | None = 202) -> None:
        session.upgrade.sent(at_us)
        session.upgrade.answered(answer, at_us + 1000)

    def row(
        self, session: Session, hash_: bytes, role: str | None = None, upgraded: int | None = None
    ) -> Row:
        return Row(session.id, MONTH, session.site, hash_, role, NOON + 500, upgraded)

    def change(self, which: int, **columns: object) -> None:
        self.rows[which] = replace(self.rows[which], **columns)  # type: ignore[arg-type]

    def differences(self) -> dict[str, int]:
        found = compare(self.sent_log, self.rows, UTC)
        names = ("lost", "twice", "invented", "wrong", "misjudged")
        counts = {name: getattr(found, name) for name in names if getattr(found, name)}
        assert found.exact == (not counts)
        assert bool(found.reasons) == bool(counts)
        return counts


@pytest.fixture
def story() -> Story:
    """Its rows agree with the answers."""
    story = Story()
    assert story.differences() == {}
    return story


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
def test_a_column_that_differs_is_wrong(
    story: Story, which: int, change: dict[str, object]
) -> None:
    story.change(which, **change)
    assert story.differences() == {"wrong": 1}


def test_a_visitor_has_two_hashes_only_on_two_sites(story: Story) -> None:
    story.rows.append(story.row(story.start(site="b.example.org"), OTHER_HASH))
    story.rows.append(story.row(story.start(), VISITOR_HASH))
    assert story.differences() == {}
    story.change(-1, hash=b"x" * 16)
    assert story.differences() == {"wrong": 1}


@pytest.mark.parametrize("status", [None, 503])
def test_without_an_answer_a_row_may_be_there_or_not_but_not_twice(
    story: Story, status: int | None
) -> None:
    session = story.start(answer=status)
    assert story.differences() == {}
    story.rows.append(story.row(session, VISITOR_HASH))
    assert story.differences() == {}
    story.rows.append(replace(story.rows[-1], month=date(2026, 12, 1)))
    assert story.differences() == {"twice": 1}


def test_an_upgrade_without_an_answer_may_be_there_or_not_but_not_in_part(story: Story) -> None:
    story.upgrade(story.sent_log.sessions[0], NOON, answer=None)
    assert story.differences() == {}
    story.change(0, hash=USER_HASH, role="admin", upgraded_us=NOON + 10)
    assert story.differences() == {}
    story.change(0, hash=VISITOR_HASH, upgraded_us=None)
    assert story.differences() == {"wrong": 1}


def test_a_refused_repeat_does_not_undo_an_accepted_start(story: Story) -> None:
    start = story.sent_log.sessions[0].start
    start.answered(503, NOON + 5000)
    assert (start.outcome, start.accepted_us) == (Outcome.ACCEPTED, NOON + 1000)


@pytest.mark.parametrize(("number", "status"), [(0, 204), (0, 403), (3, 201)])
def test_a_wrong_answer_is_a_difference(story: Story, number: int, status: int) -> None:
    story.sent_log.sessions[number].start.answered(status, NOON + 1000)
    assert compare(story.sent_log, story.rows, UTC).misjudged == 1


def test_an_upgrade_in_a_later_month_keeps_the_visitors_hash(story: Story) -> None:
    december = NOON + 30 * DAY_US
    session = story.start()
    story.upgrade(session, december)
    story.rows.append(story.row(session, VISITOR_HASH, "admin", december + 500))
    assert story.differences() == {}
    story.change(-1, hash=USER_HASH)
    assert story.differences() == {"wrong": 1}
