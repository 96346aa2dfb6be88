"""The events and their bytes in a stream entry.

A record is compact, versioned and self-contained: it holds hashes, never what was hashed. All
integers are big-endian.

    version  1 byte   1
    kind     1 byte   1 a session started, 2 a session upgraded by its id, 3 `current` upgraded
    id      16 bytes  the session's (kind 1) or the upgrade's own
    month    2 bytes  whose salt made the hashes: months since the year 0
    at       8 bytes  when the request arrived: microseconds since the epoch
    hash    16 bytes  the session's visitor or user (kind 1), else the user that signed in
    target  16 bytes  kind 2: the session's id; kind 3: the caller's visitor hash; kind 1: absent
    role     1 byte length (0: none), then UTF-8
    site     1 byte length, then ASCII
"""

import struct
from dataclasses import dataclass
from typing import Final

from contract.calendar import Month
from contract.errors import DeadLetter

VERSION: Final = 1
FIELD: Final = b"e"  # the one field of a stream entry

ROLE_MAX_BYTES: Final = 64
SITE_MAX_BYTES: Final = 253  # RFC 1035: a host name's longest text form

_STARTED: Final = 1
_UPGRADED: Final = 2
_CURRENT_UPGRADED: Final = 3

_HEAD = struct.Struct(">BB16sHq16s")
_TARGET = struct.Struct(">16s")


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A launch: `role` is None for a visitor, else the signed-in user's."""

    id: bytes
    month: Month
    at_us: int
    site: str
    monthly_user_hash: bytes
    role: str | None


@dataclass(frozen=True, slots=True)
class SessionUpgraded:
    """A sign-in during a session: the one with `session_id`, or where a front-end keeps no id
    (`current`) the newest still-anonymous one of `visitor_hash`. The other of the two is None.
    """

    id: bytes
    session_id: bytes | None
    visitor_hash: bytes | None
    month: Month
    at_us: int
    site: str
    user_hash: bytes
    role: str


Event = SessionStarted | SessionUpgraded


def encode(event: Event) -> bytes:
    """The event as a record of version 1.

    Raises:
        ValueError: a role or site that is longer than a record holds. The collector refuses
            such a request before it comes here.
    """
    if isinstance(event, SessionStarted):
        kind, hash_, target = _STARTED, event.monthly_user_hash, b""
    elif event.session_id is not None:
        kind, hash_, target = _UPGRADED, event.user_hash, event.session_id
    else:
        kind, hash_, target = _CURRENT_UPGRADED, event.user_hash, event.visitor_hash or b""
    role = (event.role or "").encode()
    site = event.site.encode("ascii")
    if len(role) > ROLE_MAX_BYTES or len(site) > SITE_MAX_BYTES:
        raise ValueError("a role or site is longer than a record holds")
    head = _HEAD.pack(VERSION, kind, event.id, event.month.ordinal, event.at_us, hash_)
    return b"".join((head, target, bytes((len(role),)), role, bytes((len(site),)), site))


def decode(record: bytes) -> Event:
    """The event that a record holds.

    Raises:
        DeadLetter: it is no record that this version can read.
    """
    try:
        return _decode(record)
    except (struct.error, IndexError, ValueError) as error:
        raise DeadLetter("undecodable", f"not a record: {type(error).__name__}") from error


def _decode(record: bytes) -> Event:
    if record[0] != VERSION:
        raise DeadLetter("unknown_version", f"a record of version {record[0]}, not {VERSION}")
    _, kind, id_, ordinal, at_us, hash_ = _HEAD.unpack_from(record)
    month = Month.from_ordinal(ordinal)
    if kind == _STARTED:
        role, site = _role_and_site(record, _HEAD.size)
        return SessionStarted(id_, month, at_us, site, hash_, role)
    if kind not in (_UPGRADED, _CURRENT_UPGRADED):
        raise DeadLetter("unknown_kind", f"a record of kind {kind}")
    (target,) = _TARGET.unpack_from(record, _HEAD.size)
    role, site = _role_and_site(record, _HEAD.size + _TARGET.size)
    if role is None:
        raise ValueError("an upgrade without a role")
    session_id, visitor_hash = (target, None) if kind == _UPGRADED else (None, target)
    return SessionUpgraded(id_, session_id, visitor_hash, month, at_us, site, hash_, role)


def _role_and_site(record: bytes, start: int) -> tuple[str | None, str]:
    role_end = start + 1 + record[start]
    site_end = role_end + 1 + record[role_end]
    if site_end != len(record):
        raise ValueError("its length is not what it says")
    role = record[start + 1 : role_end].decode() or None
    site = record[role_end + 1 : site_end].decode("ascii")
    if not site or "\0" in site or (role is not None and "\0" in role):
        raise ValueError("no site, or a NUL, which PostgreSQL can't hold")
    return role, site
