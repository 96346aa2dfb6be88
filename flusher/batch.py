"""Step 2: entries into events, each session once. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC
from functools import cache

from contract.calendar import DAY_US, Month
from contract.errors import DeadLetter
from contract.record import Event, SaltMade, SessionStarted, SessionUpgraded, decode
from flusher.entry import Entry

_EARLIEST = Month(2000, 1)


@dataclass(slots=True)
class Batch:
    """What is written in one transaction.

    `entries` are all that it came from; `notices` those of them that are no session's and were
    accepted from nobody.
    """

    entries: list[Entry] = field(default_factory=list)
    notices: list[Entry] = field(default_factory=list)
    starts: dict[bytes, SessionStarted] = field(default_factory=dict)
    upgrades: dict[bytes, SessionUpgraded] = field(default_factory=dict)
    salts: dict[bytes, SaltMade] = field(default_factory=dict)
    repeated_starts: int = 0
    repeated_upgrades: int = 0

    @property
    def months(self) -> set[Month]:
        return {start.month for start in self.starts.values()} | {
            upgrade.month for upgrade in self.upgrades.values()
        }

    @property
    def oldest_us(self) -> int | None:
        """When its oldest session began."""
        return min((start.at_us for start in self.starts.values()), default=None)


@dataclass(frozen=True, slots=True)
class Undecodable:
    """An entry that is no event, and why."""

    entry: Entry
    why: DeadLetter


def decode_entries(entries: Iterable[Entry], latest: Month) -> tuple[Batch, list[Undecodable]]:
    """The events of entries, and the entries that hold none.

    Args:
        entries: as read.
        latest: the last month that an event may be of. A later one is a broken record: no
            collector can have had its salt.
    """
    batch = Batch()
    undecodable = []
    for entry in entries:
        try:
            event = _decode(entry.record, latest)
        except DeadLetter as why:
            undecodable.append(Undecodable(entry, why))
            continue
        batch.entries.append(entry)
        if isinstance(event, SessionStarted):
            known = batch.starts.get(event.id)
            if known is not None:
                batch.repeated_starts += 1
            if known is None or event.at_us < known.at_us:
                batch.starts[event.id] = event
        elif isinstance(event, SaltMade):
            batch.notices.append(entry)
            batch.salts[event.id] = event
        elif event.id in batch.upgrades:
            batch.repeated_upgrades += 1
        else:
            batch.upgrades[event.id] = event
    return batch, undecodable


def _decode(record: bytes, latest: Month) -> Event:
    event = decode(record)
    if not _EARLIEST <= event.month <= latest:
        raise DeadLetter("month", f"a record of {event.month}, which no collector can have made")
    begins_us, ends_us = _bounds_us(event.month)
    if not begins_us <= event.at_us <= ends_us:
        raise DeadLetter("instant", f"a record of {event.month} from another time")
    return event


@cache
def _bounds_us(month: Month) -> tuple[int, int]:
    """The month in any time zone: a day and more of room on either side of UTC's."""
    return month.starts_us(UTC) - 2 * DAY_US, month.ends_us(UTC) + 2 * DAY_US
