"""Step 3 of an import: a line of the earlier `impact_tracking_sessions` as a session. Pure.

Columns: `id` (a number or a UUID), `monthly_user_hash` (64 hex digits), `highest_role` (empty: a
visitor), `created_at` (ISO 8601, in UTC where it names no zone), and where there is one, `site`.

A session's id is made of two parts. The first ten bytes are of the earlier id and the site: its
key, by which it is found again. The last six are of the import that stored it: so `--undo` finds
what that has stored, and nothing else.
"""

import re
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from contract.calendar import DAY_US, Month, to_us
from contract.site import site_name
from flusher.imports.csv_line import Fields
from flusher.rows.copy_format import EPOCH_US, RowTemplate

RUN_BYTES: Final = 6
KEY_BYTES: Final = 10

_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
# What programs write for an empty field: \copy, SQL, JSON, Ruby, Python, pandas.
_EMPTY: Final = frozenset(("", "\\n", "null", "nil", "none", "nan"))
_EARLIEST: Final = Month(2000, 1)
_MONTHS_END_US: Final = 2 * DAY_US
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Importable:
    """What a line must be to be imported."""

    site: str | None
    """Whose sessions those are that do not say."""
    zone: ZoneInfo
    latest: Month
    dropped: Collection[Month]
    roles: Collection[str]


class EarlierSession(NamedTuple):
    """`key`: by which it is found again. `row`: as `flusher/rows/copy_format.py` has it. `months`:
    its own, then the one beside it that is near: there it is if its time was mended since.
    """

    key: bytes
    row: bytes
    months: tuple[Month, ...]
    signed_in: bool


class EarlierSessions:
    """Makes the sessions of one run of an import."""

    def __init__(self, rules: Importable, run: bytes) -> None:
        """`run`: the last bytes of their ids, so many as `RUN_BYTES`."""
        self._rules = rules
        self._run = run
        first, last = _EARLIEST.ordinal, rules.latest.ordinal
        self._months = [Month.from_ordinal(ordinal) for ordinal in range(first, last + 1)]
        self._starts = [month.starts_us(rules.zone) for month in self._months]
        self._ends_us = rules.latest.ends_us(rules.zone)
        # The same few come with nearly every line. Bounded, since a file may hold anything.
        self._template = lru_cache(_REMEMBERED)(RowTemplate)
        self._site = lru_cache(_REMEMBERED)(self._find_site)

    def session(self, fields: Fields) -> EarlierSession:
        """The session of a line; of the same line it has the same key each time.

        Raises:
            ValueError: what is wrong with the line, without quoting it.
        """
        site = self._site(fields.site)
        key = _key(site, _id(fields.id))
        hash_ = _hash(fields.monthly_user_hash)
        at_us = _instant_us(fields.created_at)
        months = self._months_of(at_us)
        role = self._role(fields.highest_role)
        template = self._template(months[0], site, role)
        row = template.pack(
            template.before_id,
            key + self._run,
            template.before_hash,
            hash_,
            template.after_hash,
            at_us - EPOCH_US,
        )
        return EarlierSession(key, row, months, role is not None)

    def _find_site(self, text: str) -> str:
        if text.lower() in _EMPTY:
            if self._rules.site is None:
                raise ValueError("site is empty, and --site does not say whose it is")
            return self._rules.site
        site = site_name(text)
        if site is None:
            raise ValueError("site is not a host name")
        return site

    def _months_of(self, at_us: int) -> tuple[Month, ...]:
        place = bisect_right(self._starts, at_us) - 1
        if place < 0 or at_us >= self._ends_us:
            raise ValueError("created_at is before the year 2000 or in a month that has not come")
        month = self._months[place]
        if month in self._rules.dropped:
            raise ValueError(f"the sessions of {month} were dropped (SESSIONS_KEPT_MONTHS)")
        if at_us - self._starts[place] < _MONTHS_END_US:
            return month, month.plus(-1)
        ends_us = self._starts[place + 1] if place + 1 < len(self._starts) else self._ends_us
        if ends_us - at_us <= _MONTHS_END_US:
            return month, month.plus(1)
        return (month,)

    def _role(self, text: str) -> str | None:
        if text in self._rules.roles:
            return text
        if text.lower() in _EMPTY:
            return None
        raise ValueError("highest_role is none of JWT_ROLE_RANK, nor empty")


def _id(text: str) -> str:
    """The earlier id, in one form."""
    if _NUMBER.fullmatch(text):
        return text.lstrip("0") or "0"
    if _UUID.fullmatch(text):
        return str(UUID(text))
    if not text:
        raise ValueError("id is empty")
    raise ValueError("id is neither a whole number nor a UUID (spreadsheets round long numbers)")


def _key(site: str, id_: str) -> bytes:
    """RFC 9562, section 5.8, as `contract/identity.py` makes them: the digest, but for version and
    variant.
    """
    octets = bytearray(sha256(f"earlier session\0{site}\0{id_}".encode()).digest()[:KEY_BYTES])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)


def _hash(text: str) -> bytes:
    """Likewise, of the earlier system's hash."""
    try:
        octets = bytearray.fromhex(text)
    except ValueError:
        octets = bytearray()
    if len(text) != 64 or len(octets) != 32:  # spaces between bytes are none of its digits
        raise ValueError("monthly_user_hash is not 64 hex digits")
    del octets[16:]
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)


def _instant_us(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise ValueError("created_at is not a date and time (ISO 8601)") from None
    try:
        return to_us(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    except OverflowError:  # in UTC it is before the year 1, or after 9999
        raise ValueError(
            "created_at is before the year 2000 or in a month that has not come"
        ) from None
