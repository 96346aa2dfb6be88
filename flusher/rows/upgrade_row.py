"""Upgrades and sign-ins as the statements take them."""

from datetime import date, datetime
from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID


class UpgradeRow(NamedTuple):
    """The arguments of `match_upgrades.sql`, in its order."""

    id: UUID
    session_id: UUID | None
    visitor_hash: UUID | None
    month: date
    site: str
    user_hash: UUID
    highest_role: str
    upgraded_at: datetime


class SignInRow(NamedTuple):
    """The arguments of `store_sign_in_digests.sql`, in its order.

    Nothing in it identifies the upgrade.
    """

    month: date
    site: str
    pair: UUID
    user: UUID
    visitor: UUID
