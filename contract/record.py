"""The events and their bytes in a stream entry.

A record is compact, versioned and self-contained: it holds hashes, never the hashed values. All
integers are big-endian. A change that an older flusher can't read needs the next version: during an
upgrade, an entry of the next version waits for a flusher that knows it.

    version  1 byte   1
    kind     1 byte   1 a session started, 2 a session upgraded by its id, 3 `current` upgraded,
                      4 a salt was made
    id      16 bytes  the session's (kind 1) or the event's own
    month    2 bytes  whose salt made the hashes: months since the year 0
    at       8 bytes  when the request arrived: microseconds since the epoch
    hash    16 bytes  the session's visitor or user (kind 1), or the user that signed in (2, 3)
    target  16 bytes  the session's id (kind 2) or the caller's visitor hash (kind 3)
    sign-in 48 bytes  three digests to count it by (kinds 2, 3; `contract.identity.SignIn`); zeros
                      where the request was no visitor's own
    role     1 byte length (0: none), then UTF-8; kind 4: why the salt was made
    site     1 byte length, then ASCII (kinds 1 to 3)
"""

import struct
from dataclasses import dataclass
from typing import Final

from contract.calendar import Month
from contract.errors import DeadLetter, NewerVersion
from contract.identity import SignIn

VERSION: Final = 1
NEXT_VERSION: Final = 3  # 2 begins an entry of several records (contract/entry.py)
FIELD: Final = b"e"  # the one field of a stream entry

ROLE_MAX_BYTES: Final = 64
SITE_MAX_BYTES: Final = 253  # RFC 1035: a host name's longest text form

_STARTED: Final = 1
_UPGRADED: Final = 2
_CURRENT_UPGRADED: Final = 3
_SALT_MADE: Final = 4

_HEAD = struct.Struct(">BB16sHq")
_START = struct.Struct(">H16sHq16s")
_UPGRADE = struct.Struct(">H16sHq16s16s48s")
# For fast reading without objects. The tags are the first two bytes. The unpackers give the fields
# of fixed size (tag, id, month's ordinal, time, hash, and for an upgrade target and sign-in), and
# raise struct.error if a record is too short. The sizes are where role and site begin.
START_TAG: Final = VERSION << 8 | _STARTED
unpack_start: Final = _START.unpack_from
START_BYTES: Final = _START.size
UPGRADE_TAG: Final = VERSION << 8 | _UPGRADED
CURRENT_UPGRADE_TAG: Final = VERSION << 8 | _CURRENT_UPGRADED
unpack_upgrade: Final = _UPGRADE.unpack_from
UPGRADE_BYTES: Final = _UPGRADE.size
_ID_BYTES: Final = 16
_HASH_BYTES: Final = 16
_SIGN_IN_BYTES: Final = 3 * _HASH_BYTES
NO_SIGN_IN: Final = bytes(_SIGN_IN_BYTES)


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
    """A sign-in during a session: that with `session_id`, or (`current`) the newest anonymous
    session of `visitor_hash`. The other of the two is None. `sign_in` counts the pair of visitor
    and user; None: the request did not come from the visitor's own address.
    """

    id: bytes
    session_id: bytes | None
    visitor_hash: bytes | None
    month: Month
    at_us: int
    site: str
    user_hash: bytes
    role: str
    sign_in: SignIn | None = None


@dataclass(frozen=True, slots=True)
class SaltMade:
    """A month got a salt, and why. If a salt was lost or replaced, people who came before and come
    again count twice in that month. Reports say so.
    """

    id: bytes
    month: Month
    at_us: int
    outcome: str


Event = SessionStarted | SessionUpgraded | SaltMade


def encode(event: Event) -> bytes:
    """The event as a record of version 1.

    Raises:
        ValueError: a role or site is longer than a record allows. The collector refuses
            such a request earlier.
    """
    if isinstance(event, SessionStarted):
        hash_ = event.monthly_user_hash
        return encode_started(event.id, event.month, event.at_us, event.site, hash_, event.role)
    if isinstance(event, SaltMade):
        head = _head(_SALT_MADE, event.id, event.month, event.at_us)
        return head + _short(event.outcome.encode(), ROLE_MAX_BYTES)
    if event.session_id is not None:
        kind, target = _UPGRADED, event.session_id
    else:
        kind, target = _CURRENT_UPGRADED, event.visitor_hash or b""
    head = _head(kind, event.id, event.month, event.at_us)
    role = _short(event.role.encode(), ROLE_MAX_BYTES)
    site = _short(event.site.encode("ascii"), SITE_MAX_BYTES)
    sign_in = b"".join(event.sign_in) if event.sign_in else NO_SIGN_IN
    return b"".join((head, event.user_hash, target, sign_in, role, site))


def encode_started(
    id_: bytes, month: Month, at_us: int, site: str, monthly_user_hash: bytes, role: str | None
) -> bytes:
    """A `SessionStarted` as a record, without making the event: each request needs one.

    Raises:
        ValueError: as in `encode`.
    """
    head = _head(_STARTED, id_, month, at_us)
    packed_role = _short(role.encode(), ROLE_MAX_BYTES) if role else b"\0"
    packed_site = _short(site.encode("ascii"), SITE_MAX_BYTES)
    return b"%b%b%b%b" % (head, monthly_user_hash, packed_role, packed_site)


def _head(kind: int, id_: bytes, month: Month, at_us: int) -> bytes:
    if len(id_) != _ID_BYTES:
        raise ValueError("an id is not of 16 bytes")
    return _HEAD.pack(VERSION, kind, id_, month.ordinal, at_us)


def _short(text: bytes, longest: int) -> bytes:
    if len(text) > longest:
        raise ValueError("a role or site is longer than a record holds")
    return b"%c%b" % (len(text), text)


def decode(record: bytes) -> Event:
    """The event that a record holds.

    Raises:
        NewerVersion: it is a record for the flushers of the next release.
        DeadLetter: it is not a record.
    """
    try:
        return _decode(record)
    except (struct.error, IndexError, ValueError) as error:
        raise DeadLetter("undecodable", f"not a record: {type(error).__name__}") from error


def _decode(record: bytes) -> Event:
    if record[0] == NEXT_VERSION:
        raise NewerVersion("newer_version", f"a record of version {record[0]}, not {VERSION}")
    if record[0] != VERSION:
        raise DeadLetter("unknown_version", f"a record of version {record[0]}, not {VERSION}")
    _, kind, id_, ordinal, at_us = _HEAD.unpack_from(record)
    month = Month.from_ordinal(ordinal)
    if kind == _SALT_MADE:
        (outcome,) = _texts(record, _HEAD.size, 1)
        if not outcome or b"\0" in outcome:
            raise ValueError("a salt that was made for no reason")
        return SaltMade(id_, month, at_us, outcome.decode())
    if kind not in (_STARTED, _UPGRADED, _CURRENT_UPGRADED):
        raise DeadLetter("unknown_kind", f"a record of kind {kind}")
    hash_, start = _bytes(record, _HEAD.size, _HASH_BYTES)
    if kind == _STARTED:
        role, site = _role_and_site(record, start)
        return SessionStarted(id_, month, at_us, site, hash_, role)
    target, start = _bytes(record, start, _HASH_BYTES)
    digests, start = _bytes(record, start, _SIGN_IN_BYTES)
    role, site = _role_and_site(record, start)
    if role is None:
        raise ValueError("an upgrade without a role")
    session_id, visitor_hash = (target, None) if kind == _UPGRADED else (None, target)
    sign_in = None
    if digests != NO_SIGN_IN:
        sign_in = SignIn(digests[:16], digests[16:32], digests[32:])
    return SessionUpgraded(id_, session_id, visitor_hash, month, at_us, site, hash_, role, sign_in)


def _bytes(record: bytes, start: int, length: int) -> tuple[bytes, int]:
    end = start + length
    if end > len(record):
        raise ValueError("it ends in the middle of a hash")
    return record[start:end], end


def _role_and_site(record: bytes, start: int) -> tuple[str | None, str]:
    role, site = _texts(record, start, 2)
    if not site or b"\0" in site or b"\0" in role:
        raise ValueError("no site, or a NUL, which PostgreSQL can't hold")
    return role.decode() or None, site.decode("ascii")


def _texts(record: bytes, start: int, count: int) -> list[bytes]:
    """The texts that fill the rest of a record, each after its length."""
    texts = []
    for _ in range(count):
        end = start + 1 + record[start]
        texts.append(record[start + 1 : end])
        start = end
    if start != len(record):
        raise ValueError("its length is not what it says")
    return texts
