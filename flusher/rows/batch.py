"""Decodes entries into the rows of a batch, each session once. Pure.

Most records are starts of sessions. These are converted from the record's bytes to a row's bytes
without an object in between (`contract/record.py` has the layout). All others, and broken records,
go through `decode`.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from asyncpg.pgproto.pgproto import UUID

from contract.calendar import Month, from_us
from contract.entry import split_entry
from contract.errors import DeadLetter
from contract.record import (
    NO_SIGN_IN,
    START_BYTES,
    START_TAG,
    UPGRADE_BYTES,
    UPGRADE_TAG,
    SaltMade,
    SessionUpgraded,
    decode,
    unpack_start,
    unpack_upgrade,
)
from flusher.rows.copy_format import EPOCH_US, began_us
from flusher.rows.entry import Entry
from flusher.rows.records_month import RecordsMonth
from flusher.rows.upgrade_row import SignInRow, UpgradeRow, sign_in_row, upgrade_row

_EARLIEST = Month(2000, 1)
_NEVER_US = 1 << 63


@dataclass(frozen=True, slots=True)
class Undecodable:
    """An entry that is not an event, and why."""

    entry: Entry
    why: DeadLetter


@dataclass(slots=True)
class Batch:
    """The events that are written in one transaction."""

    entries: list[Entry] = field(default_factory=list)
    """All that it came from, and that end when it is written."""
    notices: list[Entry] = field(default_factory=list)
    """Those of `entries` that are of no session and of no client."""
    records: int = 0
    """How many records `entries` hold."""
    starts: dict[bytes, bytes] = field(default_factory=dict)
    """Sessions: their rows (`flusher/rows/copy_format.py`) by id."""
    near_months_end: dict[bytes, Month] = field(default_factory=dict)
    """Those of `starts`, with their month, that may have a copy in the month beside it."""
    upgrades: dict[bytes, UpgradeRow] = field(default_factory=dict)
    sign_ins: dict[bytes, SignInRow] = field(default_factory=dict)
    """Of those of `upgrades` that have one, by the same id."""
    salts: dict[bytes, SaltMade] = field(default_factory=dict)
    repeated_starts: int = 0
    repeated_upgrades: int = 0
    undecodable: list[Undecodable] = field(default_factory=list)
    """Entries that are no event. None of `entries`."""
    divisible: list[Entry] = field(default_factory=list)
    """Entries of several records, one of which is no event. None of `entries`."""
    _months: dict[int, RecordsMonth] = field(default_factory=dict)  # by ordinal
    _oldest_us: int = _NEVER_US

    @property
    def months(self) -> set[Month]:
        """The months of its sessions and upgrades, which writing it may change."""
        return {month.month for month in self._months.values() if month.of_events}

    @property
    def accepted(self) -> list[Entry]:
        """The entries for which a client got a 2xx: all but the notices of salts."""
        if not self.notices:
            return self.entries
        notices = {(notice.shard, notice.id) for notice in self.notices}
        return [entry for entry in self.entries if (entry.shard, entry.id) not in notices]

    @property
    def broken(self) -> list[Entry]:
        """The entries that were read, but are not in `entries`."""
        return [*self.divisible, *(undecodable.entry for undecodable in self.undecodable)]

    @property
    def oldest_us(self) -> int | None:
        """When its oldest session began."""
        return self._oldest_us if self.starts else None

    def add(self, entries: Iterable[Entry], latest: Month) -> None:
        """Adds the events of entries.

        Args:
            entries: as read.
            latest: the latest month that an event may have. A record with a later month is broken:
                no collector can have had its salt.
        """
        for entry in entries:
            try:
                records = split_entry(entry.record)
            except DeadLetter as why:
                self.undecodable.append(Undecodable(entry, why))
                continue
            added = len(self.starts), len(self.upgrades)
            repeated = self.repeated_starts, self.repeated_upgrades
            try:
                is_notice = self._add_records(records, latest)
                if is_notice and len(records) > 1:
                    raise DeadLetter("undecodable", "a notice among sessions")  # noqa: TRY301 - the same way out
            except DeadLetter as why:
                self._take_back(added, repeated)
                if len(records) > 1:
                    self.divisible.append(entry)
                else:
                    self.undecodable.append(Undecodable(entry, why))
                continue
            self.entries.append(entry)
            self.records += len(records)
            if is_notice:
                self.notices.append(entry)

    def _add_records(self, records: Sequence[bytes], latest: Month) -> bool:
        """Adds an entry's records; whether it is a notice."""
        is_notice = False
        starts = self.starts
        ordinal = -1
        for record in records:
            try:
                tag, id_, its_ordinal, at_us, hash_ = unpack_start(record)
            except struct.error:
                tag = 0  # shorter than any start
            if tag != START_TAG:
                add = self._add_upgrade if tag == UPGRADE_TAG else self._add_other
                is_notice |= add(record, latest)
                continue
            if its_ordinal != ordinal:
                month = self._month(its_ordinal, record, latest)
                month.of_events = True
                ordinal = its_ordinal
            role_and_site = record[START_BYTES:]
            template = month.templates.get(role_and_site)
            if template is None:
                template = month.add_template(role_and_site, record)
            if not month.inside_from_us <= at_us <= month.inside_to_us:
                month.check(at_us)
                self.near_months_end[id_] = month.month
            if id_ in starts:
                self.repeated_starts += 1
                if at_us >= began_us(starts[id_]):
                    continue
            if at_us < self._oldest_us:  # noqa: PLR1730 - min() would be a call for each record
                self._oldest_us = at_us
            starts[id_] = template.pack(
                template.before_id,
                id_,
                template.before_hash,
                hash_,
                template.after_hash,
                at_us - EPOCH_US,
            )
        return is_notice

    def _add_other(self, record: bytes, latest: Month) -> bool:
        """Adds an event of any kind; whether it is a notice."""
        event = decode(record)
        month = self._month(event.month.ordinal, record, latest)
        month.check(event.at_us)
        if isinstance(event, SaltMade):
            self.salts[event.id] = event
            return True
        month.of_events = True
        if isinstance(event, SessionUpgraded):
            if event.id in self.upgrades:
                self.repeated_upgrades += 1
            else:
                self.upgrades[event.id] = row = upgrade_row(event)
                if event.sign_in is not None:
                    self.sign_ins[event.id] = sign_in_row(row, event.sign_in)
        return False

    def _add_upgrade(self, record: bytes, latest: Month) -> bool:
        """Adds an upgrade by id like `_add_other`, but without an event in between."""
        try:
            _, id_, ordinal, at_us, user_hash, session_id, digests = unpack_upgrade(record)
        except struct.error:
            decode(record)  # which tells what is wrong with it
            raise
        month = self._month(ordinal, record, latest)
        month.check(at_us)
        role_and_site = record[UPGRADE_BYTES:]
        texts = month.upgrades_texts.get(role_and_site)
        if texts is None:
            texts = month.add_upgrades_texts(role_and_site, record)
        month.of_events = True
        if id_ in self.upgrades:
            self.repeated_upgrades += 1
            return False
        role, site = texts
        self.upgrades[id_] = UpgradeRow(
            UUID(id_),
            UUID(session_id),
            None,
            month.first_day,
            site,
            UUID(user_hash),
            role,
            from_us(at_us),
        )
        if digests != NO_SIGN_IN:
            self.sign_ins[id_] = SignInRow(
                month.first_day,
                site,
                UUID(digests[:16]),
                UUID(digests[16:32]),
                UUID(digests[32:]),
            )
        return False

    def _month(self, ordinal: int, record: bytes, latest: Month) -> RecordsMonth:
        month = self._months.get(ordinal)
        if month is None:
            wanted = decode(record).month
            if not _EARLIEST <= wanted <= latest:
                raise DeadLetter("month", f"a record of {wanted}, which no collector can have made")
            month = self._months[ordinal] = RecordsMonth(wanted)
        return month

    def _take_back(self, added: tuple[int, int], repeated: tuple[int, int]) -> None:
        """Removes the records of an entry of which a later record is broken."""
        starts, upgrades = added
        while len(self.starts) > starts:
            self.starts.popitem()
        while len(self.upgrades) > upgrades:
            self.sign_ins.pop(self.upgrades.popitem()[0], None)
        self.repeated_starts, self.repeated_upgrades = repeated


def decode_entries(entries: Iterable[Entry], latest: Month) -> Batch:
    """A batch of the events of entries; `latest` as in `Batch.add`."""
    batch = Batch()
    batch.add(entries, latest)
    return batch
