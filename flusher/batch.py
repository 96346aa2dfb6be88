"""Step 2: entries into events, each session once. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from contract.calendar import Month
from contract.errors import DeadLetter
from contract.record import SessionStarted, SessionUpgraded, decode
from flusher.entry import Entry


@dataclass(slots=True)
class Batch:
    """What is written in one transaction. `entries` are all that it came from."""

    entries: list[Entry] = field(default_factory=list)
    starts: dict[bytes, SessionStarted] = field(default_factory=dict)
    upgrades: dict[bytes, SessionUpgraded] = field(default_factory=dict)
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
        elif event.id in batch.upgrades:
            batch.repeated_upgrades += 1
        else:
            batch.upgrades[event.id] = event
    return batch, undecodable


def _decode(record: bytes, latest: Month) -> SessionStarted | SessionUpgraded:
    event = decode(record)
    if event.month > latest:
        raise DeadLetter("month", f"a record of {event.month}, which is yet to come")
    return event
