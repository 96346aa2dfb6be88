"""Upgrades as the statements take them. Pure."""

from datetime import date, datetime
from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID

from contract.calendar import from_us
from contract.identity import SignIn
from contract.record import SessionUpgraded


class UpgradeRow(NamedTuple):
    """The columns of `flusher.upgrades` that an event fills, in the statement's order."""

    id: UUID
    session_id: UUID | None
    visitor_hash: UUID | None
    month: date
    site: str
    user_hash: UUID
    highest_role: str
    upgraded_at: datetime


class SignInRow(NamedTuple):
    """A sign-in as it is counted, in the statement's order: nothing of it names the upgrade."""

    month: date
    site: str
    pair: UUID
    user: UUID
    visitor: UUID


def upgrade_row(upgrade: SessionUpgraded) -> UpgradeRow:
    """The row of an upgrade."""
    return UpgradeRow(
        UUID(upgrade.id),
        UUID(upgrade.session_id) if upgrade.session_id else None,
        UUID(upgrade.visitor_hash) if upgrade.visitor_hash else None,
        upgrade.month.first_day,
        upgrade.site,
        UUID(upgrade.user_hash),
        upgrade.role,
        from_us(upgrade.at_us),
    )


def sign_in_row(upgrade: UpgradeRow, sign_in: SignIn) -> SignInRow:
    """That of an upgrade."""
    return SignInRow(upgrade.month, upgrade.site, *map(UUID, sign_in))
