"""Decodes entries into the rows of a batch, each session once. Pure.

Most records are starts of sessions. Their bytes are converted to the bytes of a row, without an
object in between (`contract/record.py` has the layout). Broken records go through `decode`, which
says what is wrong.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID

from contract.calendar import Month, from_us
from contract.entry import split_entry
from contract.errors import DeadLetter
from contract.record import (
    CURRENT_UPGRADE_TAG,
    NO_SIGN_IN,
    START_BYTES,
    START_TAG,
    UPGRADE_BYTES,
    UPGRADE_TAG,
    SaltMade,
    decode,
    unpack_start,
    unpack_upgrade,
)
from flusher.rows.copy_format import EPOCH_US, began_us
from flusher.rows.records_month import RecordsMonth

_UPGRADE_TAGS = (UPGRADE_TAG, CURRENT_UPGRADE_TAG)
_NEVER_US = 1 << 63


class Entry(NamedTuple):
    """An entry of a stream. `id` is Redis's; `record` is one record or several."""

    shard: int
    id: bytes
    record: bytes


class UpgradeRow(NamedTuple):
    """The arguments of `match_upgrades.sql`, in its order."""

    id: UUID
    session_id: UUID | None
    visitor_hash: UUID | None
    month: date
    site: str
    user_hash: UUID
    highest_role: str
    upgraded_at: datetime


class SignInRow(NamedTuple):
    """The arguments of `store_sign_in_digests.sql`, in its order; none identifies the upgrade."""

    month: date
    site: str
    pair: UUID
    user: UUID
    visitor: UUID


@dataclass(frozen=True, slots=True)
class Undecodable:
    """An entry that is no event, and why."""

    entry: Entry
    why: DeadLetter


@dataclass(slots=True)
class Batch:
    """The events that are written in one transaction."""

    entries: list[Entry] = field(default_factory=list)
    """The entries that the events came from. They are acknowledged when the batch is written."""
    notices: list[Entry] = field(default_factory=list)
    """Those of `entries` that say that a salt was made."""
    records: int = 0
    """The number of records in `entries`."""
    starts: dict[bytes, bytes] = field(default_factory=dict)
    """The rows of its sessions (`flusher/rows/copy_format.py`), by id."""
    near_months_end: dict[bytes, Month] = field(default_factory=dict)
    """The months of those of `starts` that may have a copy in the next or the previous month."""
    upgrades: dict[bytes, UpgradeRow] = field(default_factory=dict)
    sign_ins: dict[bytes, SignInRow] = field(default_factory=dict)
    """By the id of their upgrade. Not every upgrade has one."""
    salts: dict[bytes, SaltMade] = field(default_factory=dict)
    repeated_starts: int = 0
    repeated_upgrades: int = 0
    undecodable: list[Undecodable] = field(default_factory=list)
    """Entries that are no event. They are not in `entries`."""
    divisible: list[Entry] = field(default_factory=list)
    """Entries of several records, one of which is no event. They are not in `entries`."""
    _months: dict[int, RecordsMonth] = field(default_factory=dict)  # by ordinal
    _oldest_us: int = _NEVER_US

    @property
    def months(self) -> set[Month]:
        """The months of its sessions and upgrades."""
        return {month.month for month in self._months.values() if month.has_events}

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
        """When its oldest session began, in microseconds since the epoch."""
        return self._oldest_us if self.starts else None

    def add(self, entries: Iterable[Entry], latest: Month) -> None:
        """Adds the events of entries.

        Args:
            entries: as read.
            latest: the latest month that an event may have. A record of a later month is broken,
                because no collector can have had that month's salt.
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
                    raise DeadLetter("undecodable", "a notice among sessions")  # noqa: TRY301 - handled like other errors
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
        """Adds an entry's records; returns whether it is a notice."""
        is_notice = False
        starts = self.starts
        ordinal = -1
        for record in records:
            try:
                tag, id_, its_ordinal, at_us, hash_ = unpack_start(record)
            except struct.error:
                tag = 0  # shorter than any start
            if tag != START_TAG:
                is_upgrade = tag in _UPGRADE_TAGS
                add = self._add_upgrade if is_upgrade else self._add_salt
                add(record, latest)
                is_notice |= not is_upgrade
                continue
            if its_ordinal != ordinal:
                month = self._month(its_ordinal, record, latest)
                month.has_events = True
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

    def _add_upgrade(self, record: bytes, latest: Month) -> None:
        try:
            tag, id_, ordinal, at_us, user_hash, target, digests = unpack_upgrade(record)
        except struct.error:
            decode(record)  # raises a DeadLetter
            raise
        month = self._month(ordinal, record, latest)
        month.check(at_us)
        role_and_site = record[UPGRADE_BYTES:]
        texts = month.upgrade_texts.get(role_and_site)
        if texts is None:
            texts = month.add_upgrade_texts(role_and_site, record)
        month.has_events = True
        if id_ in self.upgrades:
            self.repeated_upgrades += 1
            return
        role, site = texts
        by_id = tag == UPGRADE_TAG
        self.upgrades[id_] = UpgradeRow(
            UUID(id_),
            UUID(target) if by_id else None,
            None if by_id else UUID(target),
            month.first_day,
            site,
            UUID(user_hash),
            role,
            from_us(at_us),
        )
        if digests != NO_SIGN_IN:
            self.sign_ins[id_] = SignInRow(
                month.first_day, site, UUID(digests[:16]), UUID(digests[16:32]), UUID(digests[32:])
            )

    def _add_salt(self, record: bytes, latest: Month) -> None:
        event = decode(record)
        if not isinstance(event, SaltMade):
            raise TypeError("a record of this kind is not decoded here")
        self._month(event.month.ordinal, record, latest).check(event.at_us)
        self.salts[event.id] = event

    def _month(self, ordinal: int, record: bytes, latest: Month) -> RecordsMonth:
        month = self._months.get(ordinal)
        if month is None:
            wanted = decode(record).month
            if wanted > latest:
                raise DeadLetter("month", f"a record of {wanted}, which no collector can have made")
            month = self._months[ordinal] = RecordsMonth(wanted)
        return month

    def _take_back(self, added: tuple[int, int], repeated: tuple[int, int]) -> None:
        """Removes the first records of an entry, because a later one is broken."""
        starts, upgrades = added
        while len(self.starts) > starts:
            self.starts.popitem()
        while len(self.upgrades) > upgrades:
            self.sign_ins.pop(self.upgrades.popitem()[0], None)
        self.repeated_starts, self.repeated_upgrades = repeated


def decode_entries(entries: Iterable[Entry], latest: Month) -> Batch:
    """A new batch with the events of entries; `latest` as in `Batch.add`."""
    batch = Batch()
    batch.add(entries, latest)
    return batch
