"""Step 3 of an import: a line of the earlier `impact_tracking_sessions` as a session. Pure.

Columns: `id` (a number or a UUID), `monthly_user_hash` (64 hex digits), `highest_role` (empty: a
visitor), `created_at` (ISO 8601, in UTC where it names no zone), and where there is one, `site`.

A session's id is made of two parts. The first ten bytes are of the earlier id and the site: its
key, by which it is found again. The last six are of the import that stored it: so `--undo` finds
what that has stored, and nothing else.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from contract.calendar import DAY_US, Month, to_us
from contract.site import site_name
from flusher.imports.csv_line import Fields
from flusher.rows.copy_format import EPOCH_US, RowTemplate

RUN_BYTES: Final = 6
KEY_BYTES: Final = 10

_LONGEST_NUMBER: Final = 20
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
# What programs write for an empty field: \copy, SQL, JSON, Ruby, Python, pandas.
_EMPTY: Final = frozenset(("", "\\n", "null", "nil", "none", "nan"))
_EARLIEST: Final = Month(2000, 1)
_MONTHS_END_US: Final = 2 * DAY_US
_REMEMBERED: Final = 16_384
_EPOCH_IN_UTC: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - as an instant that names no zone
_MICROSECOND: Final = timedelta(microseconds=1)
_NOT_COUNTED: Final = "created_at is before the year 2000 or in a month that has not come"
_HALVES: Final = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Importable:
    """What a line must be to be imported."""

    site: str | None
    """Whose sessions those are that do not say."""
    zone: ZoneInfo
    latest: Month
    dropped: Collection[Month]
    roles: Collection[str]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What a session has in common with others, so that it is found out once for all of them.

    `months`: its own, then the one beside it that is near: there it is if its time was mended
    since. `before_id`: what stands before its earlier id where its key is made.
    """

    months: tuple[Month, ...]
    signed_in: bool
    before_id: bytes
    template: RowTemplate


class EarlierSessions:
    """Makes the sessions of one run of an import."""

    def __init__(self, rules: Importable, run: bytes) -> None:
        """`run`: the last bytes of their ids, so many as `RUN_BYTES`."""
        self._rules = rules
        self._run = run
        # From when on sessions are of which months; the last of them have not come.
        self._begins: list[int] = []
        self._months: list[tuple[Month, ...]] = []
        for ordinal in range(_EARLIEST.ordinal, rules.latest.ordinal + 1):
            month = Month.from_ordinal(ordinal)
            starts, ends = (
                at - EPOCH_US for at in (month.starts_us(rules.zone), month.ends_us(rules.zone))
            )
            self._begins += starts, starts + _MONTHS_END_US, ends - _MONTHS_END_US
            self._months += (month, month.plus(-1)), (month,), (month, month.plus(1))
        self._begins.append(rules.latest.ends_us(rules.zone) - EPOCH_US)
        # The same few come with nearly every line. Bounded, since a file may hold anything.
        self._site = lru_cache(_REMEMBERED)(self._find_site)
        self._kind = lru_cache(_REMEMBERED)(self._find_kind)

    def session(self, fields: Fields) -> tuple[bytes, bytes, Kind]:
        """The session of a line: its key, its row as `flusher/rows/copy_format.py` has it, and its
        kind. Of the same line the key is the same each time.

        Raises:
            ValueError: what is wrong with the line, without quoting it.
        """
        id_, hash_, role, created_at, site = fields
        # What it nearly always is, first.
        if not (
            id_.isdecimal() and id_.isascii() and len(id_) <= _LONGEST_NUMBER and id_[0] != "0"
        ):
            id_ = _id(id_.strip())
        person = _hash(hash_)
        at_us = _instant_us(created_at)
        kind = self._kind(bisect_right(self._begins, at_us), site, role)
        key = _as_uuid(sha256(kind.before_id + id_.encode()).digest())[:KEY_BYTES]
        template = kind.template
        row = template.pack(
            template.before_id,
            key + self._run,
            template.before_hash,
            person,
            template.after_hash,
            at_us,
        )
        return key, row, kind

    def _find_kind(self, place: int, site_text: str, role_text: str) -> Kind:
        site = self._site(site_text)
        if not 0 < place <= len(self._months):
            raise ValueError(_NOT_COUNTED)
        months = self._months[place - 1]
        if months[0] in self._rules.dropped:
            raise ValueError(f"the sessions of {months[0]} were dropped (SESSIONS_KEPT_MONTHS)")
        role = self._role(role_text.strip())
        before_id = f"earlier session\0{site}\0".encode()
        return Kind(months, role is not None, before_id, RowTemplate(months[0], site, role))

    def _find_site(self, text: str) -> str:
        text = text.strip()
        if text.lower() in _EMPTY:
            if self._rules.site is None:
                raise ValueError("site is empty, and --site does not say whose it is")
            return self._rules.site
        site = site_name(text)
        if site is None:
            raise ValueError("site is not a host name")
        return site

    def _role(self, text: str) -> str | None:
        if text in self._rules.roles:
            return text
        if text.lower() in _EMPTY:
            return None
        raise ValueError("highest_role is none of JWT_ROLE_RANK, nor empty")


def _id(text: str) -> str:
    """The earlier id, in one form."""
    if text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER:
        return text.lstrip("0") or "0"
    if _UUID.fullmatch(text):
        return str(UUID(text))
    if not text:
        raise ValueError("id is empty")
    raise ValueError("id is neither a whole number nor a UUID (spreadsheets round long numbers)")


def _hash(text: str) -> bytes:
    """The earlier system's hash in 16 bytes."""
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(text) != 64:
        if text != text.strip():
            return _hash(text.strip())
        octets = b""
    if len(octets) != 32:  # spaces between bytes are none of its digits
        raise ValueError("monthly_user_hash is not 64 hex digits")
    return _as_uuid(octets)


def _as_uuid(octets: bytes) -> bytes:
    """The first 16 bytes, but for version and variant (RFC 9562, section 5.8), as
    `contract/identity.py` makes them.
    """
    high, low = _HALVES.unpack_from(octets)
    return _HALVES.pack(high & ~0xF000 | 0x8000, low & ~(3 << 62) | 2 << 62)


def _instant_us(text: str) -> int:
    """Microseconds since `EPOCH_US`."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        shorter = text.strip().removesuffix(" UTC")
        if shorter != text:
            return _instant_us(shorter)
        raise ValueError("created_at is not a date and time (ISO 8601)") from None
    if instant.tzinfo is None:
        return (instant - _EPOCH_IN_UTC) // _MICROSECOND
    try:
        return to_us(instant) - EPOCH_US
    except OverflowError:  # in UTC it is before the year 1, or after 9999
        raise ValueError(_NOT_COUNTED) from None
