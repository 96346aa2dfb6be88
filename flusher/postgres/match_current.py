"""Upgrades of `current`: decides again, for each visitor whom a batch changes.

Only upgrades and sessions since the earliest change are decided again, because earlier decisions do
not depend on it. So the work does not grow with all that a visitor ever did.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from flusher.postgres.statements import statement
from flusher.rows.counts import Counts, Session
from flusher.rows.current import OVERTAKING, Launch, UpgradeRequest, decide


class Visitor(NamedTuple):
    """A visitor of a site in a month."""

    month: date
    site: str
    hash: UUID


class Changed:
    """For each visitor, since when decisions may be different."""

    def __init__(self) -> None:
        self.since: dict[Visitor, datetime] = {}

    def add_session(self, visitor: Visitor, began: datetime) -> None:
        """A session is new or gone."""
        self.add_upgrade(visitor, began - OVERTAKING)

    def add_upgrade(self, visitor: Visitor, at: datetime) -> None:
        """An upgrade is new, or has taken a session, or has lost it."""
        known = self.since.get(visitor)
        if known is None or at < known:
            self.since[visitor] = at


@dataclass(slots=True)
class _Case:
    """What is decided again for one visitor, as it is stored now."""

    visitor: Visitor
    since: datetime
    upgrades: dict[UUID, asyncpg.Record] = field(default_factory=dict)
    sessions: dict[UUID, asyncpg.Record] = field(default_factory=dict)
    taken: dict[UUID, Launch] = field(default_factory=dict)

    @property
    def of_current(self) -> list[asyncpg.Record]:
        return [row for row in self.upgrades.values() if row["session_id"] is None]

    def requests(self) -> list[UpgradeRequest]:
        return [
            UpgradeRequest(row["id"], row["upgraded_at"], row["user_hash"], row["session_id"])
            for row in self.upgrades.values()
        ]

    def launches(self) -> list[Launch]:
        return [(row["created_at"], row["id"]) for row in self.sessions.values()]


@dataclass(slots=True)
class _Changes:
    """The rows of the two statements' arguments."""

    sessions: list[tuple[UUID, date, UUID, str | None, datetime | None]] = field(
        default_factory=list
    )
    upgrades: list[tuple[UUID, str, UUID | None, UUID | None]] = field(default_factory=list)


async def match_current(
    connection: asyncpg.Connection, changed: Changed, counts: Counts
) -> set[UUID]:
    """Decides again what has changed; returns the upgrades of `current` that repeat another one."""
    all_cases = [_Case(visitor, since) for visitor, since in changed.since.items()]
    if not all_cases:
        return set()
    visitors = _columns([(*case.visitor, case.since) for case in all_cases])
    _keep_upgrades(all_cases, await connection.fetch(statement("upgrades_to_decide"), *visitors))
    # Without an upgrade of `current` there is nothing to decide.
    cases = [case for case in all_cases if case.of_current]
    if not cases:
        return set()
    await _read(connection, cases)
    changes, repeats = _Changes(), set()
    for case in cases:
        takers, repeated = decide(case.requests(), case.launches(), case.taken)
        repeats |= repeated
        _compare(case, takers, repeated, changes, counts)
    if changes.sessions:
        await connection.execute(statement("change_sessions"), *_columns(changes.sessions))
    if changes.upgrades:
        await connection.execute(statement("change_upgrades"), *_columns(changes.upgrades))
    return repeats


async def _read(connection: asyncpg.Connection, cases: Sequence[_Case]) -> None:
    sessions = await connection.fetch(
        statement("sessions_to_decide"),
        # Each upgrade of `current` may take one session from before.
        *_columns([(*case.visitor, case.since, len(case.of_current)) for case in cases]),
    )
    for row in sessions:
        cases[row["place"] - 1].sessions[row["id"]] = row
    by_id = [
        (id_, case.visitor.month, case.visitor.site, case.since, place)
        for place, case in enumerate(cases, 1)
        for id_ in case.sessions
    ]
    if by_id:
        statement_ = statement("upgrades_by_id_to_decide")
        _keep_upgrades(cases, await connection.fetch(statement_, *_columns(by_id)))
    users = [
        (*case.visitor, case.since, user, place)
        for place, case in enumerate(cases, 1)
        for user in {row["user_hash"] for row in case.of_current}
    ]
    for row in await connection.fetch(statement("sessions_taken_before"), *_columns(users)):
        cases[row["place"] - 1].taken[row["user_hash"]] = row["created_at"], row["id"]


def _keep_upgrades(cases: Sequence[_Case], rows: Iterable[asyncpg.Record]) -> None:
    for row in rows:
        cases[row["place"] - 1].upgrades[row["id"]] = row


def _compare(
    case: _Case,
    takers: dict[UUID, UpgradeRequest],
    repeats: set[UUID],
    changes: _Changes,
    counts: Counts,
) -> None:
    """Adds to `changes` and `counts` what differs from what is stored."""
    month, site, visitor_hash = case.visitor
    took = {request.id: session for session, request in takers.items()}
    for id_, row in case.sessions.items():
        taker = takers.get(id_)
        upgrade = None if taker is None else case.upgrades[taker.id]
        now: tuple[UUID, str | None, datetime | None] = visitor_hash, None, None
        if upgrade is not None:
            hash_ = upgrade["user_hash"] if upgrade["month"] == month else visitor_hash
            now = hash_, upgrade["highest_role"], upgrade["upgraded_at"]
        before = row["monthly_user_hash"], row["highest_role"], row["upgraded_at"]
        if now == before:
            continue
        changes.sessions.append((id_, month, *now))
        for (hash_, role, _), number in ((before, -1), (now, 1)):
            counts.add(Session(month, site, hash_, role is not None, row["created_at"]), number)
    for id_, row in case.upgrades.items():
        session = took.get(id_)
        if session is not None:
            outcome = "applied"
        elif row["session_id"] is not None or id_ in repeats:
            outcome = "superseded"
        else:
            outcome = "waiting"
        if (outcome, session) != (row["outcome"], row["applied_to"]):
            replaced = None if session is None else visitor_hash
            changes.upgrades.append((id_, outcome, session, replaced))


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
