"""The merge rules as a model: what the rows must be, given all events that ever came.

Deliberately without any of the flusher's code: it looks at everything at once, in the order in
which it was requested, where the flusher sees events in any order, repeated and in pieces.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from contract.calendar import SECOND_US, Month, to_us
from contract.identity import SignIn
from contract.record import Event, SessionStarted, SessionUpgraded

# How much earlier than its session an upgrade of `current` may have been handled.
OVERTAKING_US = 10 * SECOND_US


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `sessions`."""

    id: bytes
    month: Month
    site: str
    monthly_user_hash: bytes
    highest_role: str | None
    created_at_us: int
    upgraded_at_us: int | None = None


def as_rows(found: Iterable[Any]) -> set[Row]:
    """The records of `sessions` that a query found."""
    return {
        Row(
            each["id"].bytes,
            Month(each["month"].year, each["month"].month),
            each["site"],
            each["monthly_user_hash"].bytes,
            each["highest_role"],
            to_us(each["created_at"]),
            None if each["upgraded_at"] is None else to_us(each["upgraded_at"]),
        )
        for each in found
    }


def rows_after(events: Iterable[Event]) -> set[Row]:
    """The rows that events come to, whatever their order and repetition."""
    starts: dict[bytes, SessionStarted] = {}
    upgrades: dict[bytes, SessionUpgraded] = {}
    for event in events:
        if isinstance(event, SessionUpgraded):
            upgrades[event.id] = event
        elif isinstance(event, SessionStarted) and (
            event.id not in starts or event.at_us < starts[event.id].at_us
        ):
            starts[event.id] = event
    rows = {
        start.id: Row(
            start.id, start.month, start.site, start.monthly_user_hash, start.role, start.at_us
        )
        for start in starts.values()
    }
    taken: list[tuple[SessionUpgraded, Row]] = []
    for upgrade in sorted(upgrades.values(), key=lambda upgrade: (upgrade.at_us, upgrade.id)):
        candidates = [row for row in rows.values() if _may_take(upgrade, row)]
        if candidates:
            row = max(candidates, key=lambda row: row.created_at_us)
            if upgrade.session_id is None and any(_repeats(upgrade, row, *each) for each in taken):
                continue
            taken.append((upgrade, row))
            rows[row.id] = replace(
                row,
                highest_role=upgrade.role,
                upgraded_at_us=upgrade.at_us,
                monthly_user_hash=upgrade.user_hash
                if upgrade.month == row.month
                else row.monthly_user_hash,
            )
    return set(rows.values())


def sign_ins_after(events: Iterable[Event]) -> dict[tuple[date, str], tuple[int, ...]]:
    """Of each month and site: how many pairs of a user and a visitor signed in, users, visitors."""
    found: dict[tuple[date, str], set[SignIn]] = {}
    for event in events:
        if isinstance(event, SessionUpgraded) and event.sign_in is not None:
            found.setdefault((event.month.first_day, event.site), set()).add(event.sign_in)
    return {
        place: tuple(len({digests[n] for digests in of_place}) for n in range(3))
        for place, of_place in found.items()
    }


def _may_take(upgrade: SessionUpgraded, row: Row) -> bool:
    if row.highest_role is not None or row.site != upgrade.site:
        return False
    if upgrade.session_id is not None:
        return row.id == upgrade.session_id and row.month <= upgrade.month
    return (
        row.month == upgrade.month
        and row.monthly_user_hash == upgrade.visitor_hash
        and row.created_at_us <= upgrade.at_us + OVERTAKING_US
    )


def _repeats(upgrade: SessionUpgraded, row: Row, earlier: SessionUpgraded, took: Row) -> bool:
    """The user has taken a session of this visitor that began after the one in question."""
    return (
        (earlier.user_hash, took.site) == (upgrade.user_hash, row.site)
        and took.month == row.month
        and took.monthly_user_hash == row.monthly_user_hash
        and took.created_at_us > row.created_at_us
    )
