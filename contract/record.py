"""The events and their bytes in a stream entry.

A record holds hashes, never the hashed values. All integers are big-endian. A change that an older
flusher can't read needs the next version: during an upgrade, an entry of the next version waits for
a flusher that knows it.

    version  1 byte   1
    kind     1 byte   1 a session started, 2 a session upgraded by its id, 3 `current` upgraded,
                      4 a salt was made
    id      16 bytes  the session's (kind 1) or the event's own
    month    2 bytes  whose salt made the hashes: months since the year 0
    at       8 bytes  when the request arrived: microseconds since the epoch
    hash    16 bytes  the session's visitor or user (kind 1), or the user that signed in (2, 3)
    target  16 bytes  the session's id (kind 2) or the caller's visitor hash (kind 3)
    sign-in 48 bytes  three digests that count the sign-in (kinds 2, 3; `contract.identity.SignIn`);
                      zeros if the request did not come from the visitor's own address
    role     1 byte length (0: none), then UTF-8; kind 4: why the salt was made
    site     1 byte length, then ASCII (kinds 1 to 3)
"""

import struct
from dataclasses import dataclass
from typing import Final

from contract.calendar import Month, from_us
from contract.errors import DeadLetter, NewerVersion
from contract.identity import SignIn

VERSION: Final = 1
NEXT_VERSION: Final = 3  # 2 begins an entry of several records (contract/entry.py)
FIELD: Final = b"e"  # the one field of a stream entry

ROLE_MAX_BYTES: Final = 64
SITE_MAX_BYTES: Final = 253  # a host name, RFC 1035

_EARLIEST: Final = Month(2000, 1)
_STARTED: Final = 1
_UPGRADED: Final = 2
_CURRENT_UPGRADED: Final = 3
_SALT_MADE: Final = 4

_HEAD = struct.Struct(">BB16sHq")
_START = struct.Struct(">H16sHq16s")
_UPGRADE = struct.Struct(">H16sHq16s16s48s")
# For fast reading without objects. A tag is the first two bytes. An unpacker returns the fields of
# fixed size (tag, id, month's ordinal, time, hash; of an upgrade also target and sign-in), or
# raises struct.error if the record is too short. Role and site begin after that many bytes.
START_TAG: Final = VERSION << 8 | _STARTED
unpack_start: Final = _START.unpack_from
START_BYTES: Final = _START.size
UPGRADE_TAG: Final = VERSION << 8 | _UPGRADED
CURRENT_UPGRADE_TAG: Final = VERSION << 8 | _CURRENT_UPGRADED
unpack_upgrade: Final = _UPGRADE.unpack_from
UPGRADE_BYTES: Final = _UPGRADE.size
_ID_BYTES: Final = 16
NO_SIGN_IN: Final = bytes(48)


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
    """A sign-in during a session: the one with `session_id`, or for `current` the newest anonymous
    session of `visitor_hash`. The other field is None. `sign_in` counts the pair of visitor and
    user; None: the request did not come from the visitor's own address.
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
    """A month got a salt, and why (`outcome`). Reports show if a salt was lost or replaced, because
    people who came before and come again then count twice in that month.
    """

    id: bytes
    month: Month
    at_us: int
    outcome: str


Event = SessionStarted | SessionUpgraded | SaltMade


def encode(event: Event) -> bytes:
    """The event as a record of version 1.

    Raises:
        ValueError: a role or site is too long. The collector refuses such a request earlier.
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
    """As `encode`, for a `SessionStarted` that is not made: this runs for each request."""
    head = _head(_STARTED, id_, month, at_us)
    packed_role = _short(role.encode(), ROLE_MAX_BYTES) if role else b"\0"
    packed_site = _short(site.encode("ascii"), SITE_MAX_BYTES)
    return b"%b%b%b%b" % (head, monthly_user_hash, packed_role, packed_site)


def _head(kind: int, id_: bytes, month: Month, at_us: int) -> bytes:
    if len(id_) != _ID_BYTES:
        raise ValueError("an id must have 16 bytes")
    return _HEAD.pack(VERSION, kind, id_, month.ordinal, at_us)


def _short(text: bytes, longest: int) -> bytes:
    if len(text) > longest:
        raise ValueError("a role or site is too long for a record")
    return b"%c%b" % (len(text), text)


def decode(record: bytes) -> Event:
    """The event that a record holds.

    Raises:
        NewerVersion: it is for the flushers of the next release.
        DeadLetter: it is not a record.
    """
    try:
        return _decode(record)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise DeadLetter("undecodable", f"not a record: {type(error).__name__}") from error


def _decode(record: bytes) -> Event:
    if record[0] == NEXT_VERSION:
        raise NewerVersion("newer_version", f"a record of version {record[0]}, not {VERSION}")
    if record[0] != VERSION:
        raise DeadLetter("unknown_version", f"a record of version {record[0]}, not {VERSION}")
    _, kind, id_, ordinal, at_us = _HEAD.unpack_from(record)
    month = Month.from_ordinal(ordinal)
    if month < _EARLIEST:
        raise ValueError("a month before any collector")
    from_us(at_us)  # raises OverflowError for no time of the calendar
    if kind == _SALT_MADE:
        (outcome,) = _texts(record, _HEAD.size, 1)
        if not outcome or b"\0" in outcome:
            raise ValueError("no outcome, or a NUL, which PostgreSQL can't hold")
        return SaltMade(id_, month, at_us, outcome.decode())
    if kind == _STARTED:
        *_, hash_ = unpack_start(record)
        role, site = _role_and_site(record, START_BYTES)
        return SessionStarted(id_, month, at_us, site, hash_, role)
    if kind not in (_UPGRADED, _CURRENT_UPGRADED):
        raise DeadLetter("unknown_kind", f"a record of kind {kind}")
    *_, hash_, target, digests = unpack_upgrade(record)
    role, site = _role_and_site(record, UPGRADE_BYTES)
    if role is None:
        raise ValueError("an upgrade has no role")
    session_id, visitor_hash = (target, None) if kind == _UPGRADED else (None, target)
    known = digests != NO_SIGN_IN
    sign_in = SignIn(digests[:16], digests[16:32], digests[32:]) if known else None
    return SessionUpgraded(id_, session_id, visitor_hash, month, at_us, site, hash_, role, sign_in)


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
        raise ValueError("the record has another length than it says")
    return texts
