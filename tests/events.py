"""Events for tests."""

import itertools
import uuid

from contract.calendar import SECOND_US, Month
from contract.identity import SignIn
from contract.record import Event, SessionStarted, SessionUpgraded, encode
from flusher.rows.batch import Batch, Entry, decode_entries
from tests.instant import MONTH, NOON_US

SITE = "city.example.org"

_numbers = itertools.count(1)


def start(
    session: bytes | None = None,
    *,
    seconds: float = 0,
    visitor: bytes = b"v" * 16,
    role: str | None = None,
    site: str = SITE,
    month: Month = MONTH,
) -> SessionStarted:
    """A session that begins some seconds after noon."""
    at_us = NOON_US + int(seconds * SECOND_US)
    return SessionStarted(session or uuid.uuid4().bytes, month, at_us, site, visitor, role)


def upgrade(
    session: bytes | None,
    *,
    seconds: float = 60,
    visitor: bytes | None = None,
    user: bytes = b"u" * 16,
    role: str = "user",
    site: str = SITE,
    month: Month = MONTH,
    sign_in: SignIn | None = None,
) -> SessionUpgraded:
    """An upgrade of a session, or without one of `current`."""
    at_us = NOON_US + int(seconds * SECOND_US)
    return SessionUpgraded(
        uuid.uuid4().bytes, session, visitor, month, at_us, site, user, role, sign_in
    )


def batch_of(*events: Event) -> Batch:
    """A batch as the worker makes it."""
    entries = [Entry(0, f"{next(_numbers)}-0".encode(), encode(event)) for event in events]
    batch = decode_entries(entries, MONTH.plus(12))
    assert not batch.broken
    return batch
