"""Events for the tests: hypothesis strategies, one typical event of each kind, and its row."""

import string
from datetime import UTC
from typing import Final
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

sixteen_bytes = st.binary(min_size=16, max_size=16)
months = st.builds(Month, st.integers(2000, 2200), st.integers(1, 12))
sites = st.text(string.ascii_lowercase + string.digits + ".-_:[]", min_size=1, max_size=60) | (
    st.just("a" * SITE_MAX_BYTES)
)
roles = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=ROLE_MAX_BYTES
).filter(lambda role: len(role.encode()) <= ROLE_MAX_BYTES)

moments = st.builds(
    lambda month, day, us: (month, month.starts_us(UTC) + day * DAY_US + us),
    months,
    st.integers(0, 27),
    st.integers(0, DAY_US - 1),
)
starts = st.builds(
    lambda id_, moment, site, hash_, role: SessionStarted(
        id_, moment[0], moment[1], site, hash_, role
    ),
    sixteen_bytes,
    moments,
    sites,
    sixteen_bytes,
    st.none() | roles,
)
sign_ins = st.builds(SignIn, *[sixteen_bytes] * 3).filter(lambda digests: any(map(any, digests)))
upgrades = st.builds(
    lambda id_, target, moment, site, hash_, role, sign_in: SessionUpgraded(
        id_, target[0], target[1], moment[0], moment[1], site, hash_, role, sign_in
    ),
    sixteen_bytes,
    st.tuples(sixteen_bytes, st.none()) | st.tuples(st.none(), sixteen_bytes),
    moments,
    sites,
    sixteen_bytes,
    roles,
    st.none() | sign_ins,
)
salts_made = st.builds(
    lambda id_, moment, outcome: SaltMade(id_, moment[0], moment[1], outcome),
    sixteen_bytes,
    moments,
    roles,
)
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
