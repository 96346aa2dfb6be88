"""Events for the tests: hypothesis strategies, one typical event of each kind, and its row."""

import string
from dataclasses import replace
from datetime import UTC
from typing import Final, TypeVar
from uuid import UUID

from hypothesis import strategies as st

from contract.calendar import DAY_US, Month
from contract.identity import SignIn
from contract.record import (
    ROLE_MAX_BYTES,
    SITE_MAX_BYTES,
    SaltMade,
    SessionStarted,
    SessionUpgraded,
)
from flusher.rows.copy_format import EPOCH_US, RowTemplate

EventT = TypeVar("EventT", SessionStarted, SessionUpgraded, SaltMade)

NOVEMBER: Final = Month(2026, 11)
AT_US: Final = 1_794_000_000_123_456  # in November 2026
SESSION_ID: Final = UUID("019a3f00-0000-7000-8000-000000000001").bytes
UPGRADE_ID: Final = UUID("019a3f00-0000-7000-8000-000000000002").bytes
VISITOR: Final = bytes.fromhex("00112233445586778899aabbccddeeff")
USER: Final = bytes.fromhex("ffeeddccbbaa89988877665544332211")

STARTED: Final = SessionStarted(SESSION_ID, NOVEMBER, AT_US, "city.example.org", VISITOR, None)
SIGN_IN: Final = SignIn(b"p" * 16, b"u" * 16, b"v" * 16)
UPGRADED: Final = SessionUpgraded(
    UPGRADE_ID, SESSION_ID, None, NOVEMBER, AT_US, "city.example.org", USER, "user", SIGN_IN
)
CURRENT_UPGRADED: Final = SessionUpgraded(
    UPGRADE_ID, None, VISITOR, NOVEMBER, AT_US, "city.example.org", USER, "user", SIGN_IN
)
SALT_MADE: Final = SaltMade(UPGRADE_ID, NOVEMBER, AT_US, "rotated")

ids = st.binary(min_size=16, max_size=16)  # and hashes
months = st.builds(Month, st.integers(2000, 2200), st.integers(1, 12))
within_month = st.integers(0, 28 * DAY_US - 1)
sites = st.text(string.ascii_lowercase + string.digits + ".-_:[]", min_size=1, max_size=60) | (
    st.just("a" * SITE_MAX_BYTES)
)
roles = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=ROLE_MAX_BYTES
).filter(lambda role: len(role.encode()) <= ROLE_MAX_BYTES)
sign_ins = st.builds(SignIn, ids, ids, ids).filter(lambda digests: any(map(any, digests)))


def in_its_month(event: EventT) -> EventT:
    """The event at an instant of its month; it was so many microseconds."""
    return replace(event, at_us=event.month.starts_us(UTC) + event.at_us)


starts = st.builds(SessionStarted, ids, months, within_month, sites, ids, st.none() | roles).map(
    in_its_month
)
by_id, of_current = (
    st.builds(
        SessionUpgraded, ids, *target, months, within_month, sites, ids, roles, st.none() | sign_ins
    )
    for target in ((ids, st.none()), (st.none(), ids))
)
upgrades = (by_id | of_current).map(in_its_month)
salts_made = st.builds(SaltMade, ids, months, within_month, roles).map(in_its_month)
session_events = starts | upgrades
events = starts | upgrades | salts_made


def pack_row(start: SessionStarted) -> bytes:
    """The session's row, as `COPY` takes it."""
    template = RowTemplate(start.month, start.site, start.role)
    return template.pack(
        template.before_id,
        start.id,
        template.before_hash,
        start.monthly_user_hash,
        template.after_hash,
        start.at_us - EPOCH_US,
    )
