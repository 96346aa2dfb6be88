"""Step 3 of an import: a line of the earlier `impact_tracking_sessions` as a session. Pure.

Columns: `id` (a number or a UUID), `monthly_user_hash` (64 hex digits), `highest_role` (empty: a
visitor), `created_at` (ISO 8601, in UTC if it names no zone), and possibly `site`.

An imported session's id has two parts. The first ten bytes are a hash of the earlier id and the
site: the session's key, by which it is found again. The last six bytes are the same for all
sessions of one run of an import, so that `--undo` finds exactly these.
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
# How \copy, SQL, JSON, Ruby, Python and pandas write an empty field.
_EMPTY: Final = frozenset(("", "\\n", "null", "nil", "none", "nan"))
_EARLIEST: Final = Month(2000, 1)
_NEAR_MONTHS_END_US: Final = 2 * DAY_US
_CACHED: Final = 16_384
_EPOCH_IN_UTC: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - subtracted from times without a zone
_MICROSECOND: Final = timedelta(microseconds=1)
_NOT_COUNTED: Final = "created_at is before the year 2000 or in a month that has not come"
_HALVES: Final = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Importable:
    """What may be imported: months up to `latest` that were not dropped, and known roles."""

    site: str | None
    """The site of lines that name none."""
    zone: ZoneInfo
    latest: Month
    dropped: Collection[Month]
    roles: Collection[str]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What sessions of the same month, site and role have in common."""

    months: tuple[Month, ...]
    """The session's month; near a month's end, also the month beside it. The session may be stored
    there if its time was corrected since.
    """
    signed_in: bool
    key_prefix: bytes
    """What is hashed before the earlier id."""
    template: RowTemplate


class EarlierSessions:
    """Makes the sessions of one run of an import."""

    def __init__(self, rules: Importable, run: bytes) -> None:
        """`run`: the last `RUN_BYTES` bytes of the sessions' ids."""
        self._rules = rules
        self._run = run
        # From each of these times on, the months at the same place apply. After the last time, the
        # month has not come.
        self._begins: list[int] = []
        self._months: list[tuple[Month, ...]] = []
        for ordinal in range(_EARLIEST.ordinal, rules.latest.ordinal + 1):
            month = Month.from_ordinal(ordinal)
            starts = month.starts_us(rules.zone) - EPOCH_US
            ends = month.ends_us(rules.zone) - EPOCH_US
            self._begins += starts, starts + _NEAR_MONTHS_END_US, ends - _NEAR_MONTHS_END_US
            self._months += (month, month.plus(-1)), (month,), (month, month.plus(1))
        self._begins.append(rules.latest.ends_us(rules.zone) - EPOCH_US)
        # Most lines have one of a few kinds. The cache is bounded: a file may hold anything.
        self._kind = lru_cache(_CACHED)(self._find_kind)

    def session(self, fields: Fields) -> tuple[bytes, bytes, Kind]:
        """The session of a line: its key, its row for COPY (`flusher/rows/copy_format.py`), and its
        kind. The same earlier id and site always have the same key.

        Raises:
            ValueError: what is wrong with the line, without its content.
        """
        id_, hash_, role, created_at, site = fields
        # The usual form of an id is checked here, which is faster than the call.
        if not (
            id_.isdecimal() and id_.isascii() and len(id_) <= _LONGEST_NUMBER and id_[0] != "0"
        ):
            id_ = _id(id_.strip())
        person = _hash(hash_)
        at_us = _instant_us(created_at)
        kind = self._kind(bisect_right(self._begins, at_us), site, role)
        key = _as_uuid(sha256(kind.key_prefix + id_.encode()).digest())[:KEY_BYTES]
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
        site = self._find_site(site_text.strip())
        if not 0 < place <= len(self._months):
            raise ValueError(_NOT_COUNTED)
        months = self._months[place - 1]
        if months[0] in self._rules.dropped:
            raise ValueError(f"the sessions of {months[0]} were dropped (SESSIONS_KEPT_MONTHS)")
        role = self._role(role_text.strip())
        key_prefix = f"earlier session\0{site}\0".encode()
        return Kind(months, role is not None, key_prefix, RowTemplate(months[0], site, role))

    def _find_site(self, text: str) -> str:
        if text.lower() in _EMPTY:
            if self._rules.site is None:
                raise ValueError("site is empty, and --site does not give one")
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
    """The earlier id in one form: a number without leading zeros, or a lower-case UUID."""
    if text.isdecimal() and text.isascii() and len(text) <= _LONGEST_NUMBER:
        return text.lstrip("0") or "0"
    if _UUID.fullmatch(text):
        return str(UUID(text))
    if not text:
        raise ValueError("id is empty")
    raise ValueError("id is neither a whole number nor a UUID (spreadsheets round long numbers)")


def _hash(text: str) -> bytes:
    """The earlier system's hash in 16 bytes."""
    if len(text) != 64:
        text = text.strip()
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    # Both lengths: `fromhex` ignores spaces between bytes, which are wrong here.
    if len(text) != 64 or len(octets) != 32:
        raise ValueError("monthly_user_hash is not 64 hex digits")
    return _as_uuid(octets)


def _as_uuid(octets: bytes) -> bytes:
    """The first 16 bytes, with the version and variant of a UUIDv8 (RFC 9562, section 5.8), as in
    `contract/identity.py`.
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
    except OverflowError:  # in UTC it is before the year 1 or after 9999
        raise ValueError(_NOT_COUNTED) from None
