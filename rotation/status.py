"""The command `status`: this month's salt, and whether anything of an earlier one is left."""

import json
from dataclasses import asdict, dataclass

from contract import keys
from contract.calendar import from_us
from salt.disposal import SaltDisposal
from salt.report import Report, State
from salt.store import SaltStore
from salt.term import Outcome

_SAID = {
    State.CLEAN: "clean",
    State.OFF: "not kept there",
    State.REFUSED: "NOT VERIFIED",
    State.FAILED: "NOT CLEAN",
}


@dataclass(frozen=True, slots=True)
class Status:
    """What the salt's server reports. Times are in ISO 8601, in UTC."""

    month: str
    recorded_month: str | None
    salt_is_current: bool
    salt_made_at: str | None
    salt_made_because: str | None
    salt_dies_at: str | None
    earlier_salts: list[str]
    disposal_due_since: str | None
    last_disposal: Report | None

    @property
    def earlier_salts_left(self) -> int:
        """Earlier salts in the keyspace; plus one if a disposal is due: copies may be left."""
        return len(self.earlier_salts) + (self.disposal_due_since is not None)

    @property
    def disposal_unverified(self) -> int:
        """The number of places where the server refused the last disposal."""
        return 0 if self.last_disposal is None else len(self.last_disposal.refused)


async def read_status(store: SaltStore, disposal: SaltDisposal) -> Status:
    """Asks the salt's server; Retry if it does not answer."""
    month = await store.server_month()
    recorded = await store.recorded_month()
    salts = await store.salt_keys()
    made = await store.made(month)
    dies_us = await store.dies_us(month)
    due_since = await disposal.due_since()
    return Status(
        month=str(month),
        recorded_month=None if recorded is None else str(recorded),
        salt_is_current=recorded == month and keys.salt(month) in salts,
        salt_made_at=None if made is None else from_us(made[0]).isoformat(),
        salt_made_because=None if made is None else str(made[1]),
        salt_dies_at=from_us(dies_us).isoformat() if dies_us else None,
        earlier_salts=[key for key in salts if key < keys.salt(month)],
        disposal_due_since=None if due_since is None else from_us(due_since * 1000).isoformat(),
        last_disposal=await disposal.last_report(),
    )


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), indent=2)


def as_text(status: Status) -> str:
    """Lines for people."""
    lines = [
        f"month:             {status.month}",
        f"salt of the month: {'in force' if status.salt_is_current else 'MISSING'}{_later(status)}",
        f"made at:           {status.salt_made_at or '-'}{_why_made(status)}",
        f"dies at:           {status.salt_dies_at or '-'}",
        f"earlier salts:     {', '.join(status.earlier_salts) or 'none'}",
        f"disposal:          {_disposal(status)}",
    ]
    if status.last_disposal is not None:
        for place in status.last_disposal.places:
            to_do = f": {place.to_do}" if place.to_do else ""
            lines.append(f"  {place.server} {place.place}: {_SAID[place.state]}{to_do}")
    return "\n".join(lines)


def _later(status: Status) -> str:
    if status.recorded_month is None or status.recorded_month <= status.month:
        return ""
    return (
        f": the salt of {status.recorded_month}, a future month, is in force. If all clocks are "
        "right: python -m rotation rotate --force"
    )


def _why_made(status: Status) -> str:
    if status.salt_made_because not in (Outcome.LOST, Outcome.REPLACED):
        return ""
    return (
        f", because the one before was {status.salt_made_because}: "
        "people who came before and come again count twice this month"
    )


def _disposal(status: Status) -> str:
    if status.disposal_due_since is not None:
        return f"DUE since {status.disposal_due_since}: copies of a destroyed salt may be left"
    if status.last_disposal is None:
        return "none was needed yet"
    return f"last at {status.last_disposal.at}"
