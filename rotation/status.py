"""`python -m rotation status`: the month, its salt's life, and whether an earlier one is left."""

import json
from dataclasses import asdict, dataclass
from zoneinfo import ZoneInfo

from contract import keys
from contract.calendar import from_us, month_at
from process.salt_store import SaltStore


@dataclass(frozen=True, slots=True)
class Status:
    """What the salt's server says. Instants are ISO 8601, in UTC."""

    month: str
    recorded_month: str | None
    salt_is_current: bool
    salt_made_at: str | None
    salt_dies_at: str | None
    earlier_salts: list[str]


async def read_status(store: SaltStore, zone: ZoneInfo) -> Status:
    """Asks the salt's server.

    Raises:
        Retry: it does not answer.
    """
    month = month_at(await store.server_us(), zone)
    recorded = await store.recorded_month()
    salts = await store.salt_keys()
    life = await store.life(month)
    return Status(
        month=str(month),
        recorded_month=None if recorded is None else str(recorded),
        salt_is_current=recorded == month and keys.salt(month) in salts,
        salt_made_at=None if life.made_us is None else from_us(life.made_us).isoformat(),
        salt_dies_at=None if life.dies_us is None else from_us(life.dies_us).isoformat(),
        earlier_salts=[key for key in salts if key < keys.salt(month)],
    )


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), indent=2)


def as_text(status: Status) -> str:
    """Lines for people."""
    earlier = ", ".join(status.earlier_salts) or "none"
    return "\n".join(
        [
            f"month:             {status.month}",
            f"salt of the month: {'in force' if status.salt_is_current else 'MISSING'}",
            f"made at:           {status.salt_made_at or '-'}",
            f"dies at:           {status.salt_dies_at or '-'}",
            f"earlier salts:     {earlier}",
        ]
    )
