"""What is reported of salts: a lost one, and the places where a destroyed one may be left."""

from dataclasses import dataclass
from enum import StrEnum

import structlog

from contract.calendar import Month

log = structlog.get_logger()


class State(StrEnum):
    """What is known about a place where a salt may be left."""

    CLEAN = "clean"  # rewritten after the salt was destroyed, or checked: nothing is left
    OFF = "off"  # the server does not have this place
    REFUSED = "refused"  # the server refuses us: an operator has to clean it
    FAILED = "failed"  # it will be tried again


@dataclass(frozen=True, slots=True)
class Place:
    """A place on a server, and what an operator has to do about it, if anything."""

    server: str
    place: str
    state: State
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a disposal. `at`: ISO 8601."""

    at: str
    places: list[Place]

    @property
    def failed(self) -> list[Place]:
        return [place for place in self.places if place.state is State.FAILED]

    @property
    def refused(self) -> list[Place]:
        return [place for place in self.places if place.state is State.REFUSED]


def log_lost(month: Month) -> None:
    """Logs that a month has lost its salt, and has a new one."""
    log.error(
        "the month's salt was lost and a new one made: "
        "people who came before and come again count twice this month",
        month=str(month),
    )


def log_report(report: Report) -> None:
    for place in report.failed:
        log.error(
            "a destroyed salt may be left; this is tried again",
            server=place.server,
            place=place.place,
            why=place.to_do,
        )
    for place in report.refused:
        log.error(
            "a destroyed salt may be left where the server refuses this process",
            server=place.server,
            place=place.place,
            to_do=place.to_do,
        )
    if not report.failed and not report.refused:
        log.info("no earlier salt is left", places=len(report.places))
