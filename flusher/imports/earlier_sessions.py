"""A line of the earlier system's table `impact_tracking_sessions` as a session. Pure.

Columns: `id` (a number or a UUID), `monthly_user_hash` (64 hex digits), `highest_role` (empty: a
visitor), `created_at` (ISO 8601, in UTC where it names no zone), and where there is one, `site`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

from contract.calendar import Month, month_at, to_us
from contract.record import ROLE_MAX_BYTES, SITE_MAX_BYTES, SessionStarted

COLUMNS: Final = ("id", "monthly_user_hash", "highest_role", "created_at")
SITE_COLUMN: Final = "site"

_HASH = re.compile(r"[0-9a-fA-F]{64}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_EARLIEST = Month(2000, 1)


@dataclass(frozen=True, slots=True)
class Importable:
    """What a line must be to be imported."""

    site: str | None
    zone: ZoneInfo
    latest: Month
    dropped: frozenset[Month]


def session_of(line: Mapping[str | Any, str | Any], rules: Importable) -> SessionStarted:
    """The session of a line; the same line is the same session each time.

    Raises:
        ValueError: what is wrong with the line, without quoting it.
    """
    if None in line or None in line.values():  # so says csv.DictReader
        raise ValueError("it has more or fewer fields than the first line")
    id_ = (line.get("id") or "").strip()
    if not id_:
        raise ValueError("id is empty")
    hash_ = (line.get("monthly_user_hash") or "").strip()
    if not _HASH.fullmatch(hash_):
        raise ValueError("monthly_user_hash is not 64 hex digits")
    site = host((line.get(SITE_COLUMN) or "").strip() or rules.site or "")
    at_us = to_us(_instant((line.get("created_at") or "").strip()))
    month = month_at(at_us, rules.zone)
    if not _EARLIEST <= month <= rules.latest:
        raise ValueError("created_at is before the year 2000 or in a month that has not come")
    if month in rules.dropped:
        raise ValueError(f"the sessions of {month} were dropped (SESSIONS_KEPT_MONTHS)")
    return SessionStarted(
        _uuid8(sha256(b"\0".join((b"earlier session", site.encode(), id_.encode()))).digest()),
        month,
        at_us,
        site,
        _uuid8(bytes.fromhex(hash_)),
        _role((line.get("highest_role") or "").strip()),
    )


def host(text: str) -> str:
    """A site's host name in lower case.

    Raises:
        ValueError: it is none.
    """
    site = text.lower()
    if not _HOST.fullmatch(site) or len(site) > SITE_MAX_BYTES:
        raise ValueError("site is not a host name")
    return site


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise ValueError("created_at is not a date and time (ISO 8601)") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _role(text: str) -> str | None:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise ValueError("highest_role is not UTF-8") from None
    if len(encoded) > ROLE_MAX_BYTES or b"\0" in encoded:
        raise ValueError(f"highest_role is longer than {ROLE_MAX_BYTES} bytes, or has a NUL")
    return text or None


def _uuid8(digest: bytes) -> bytes:
    """RFC 9562, section 5.8, as `contract/identity.py` makes them: 122 of the bits are kept."""
    octets = bytearray(digest[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)
