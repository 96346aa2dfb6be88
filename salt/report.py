"""A disposal's result: each place where a destroyed salt may be left, and what is to be done."""

from dataclasses import dataclass
from enum import StrEnum

import structlog

log = structlog.get_logger()


class State(StrEnum):
    """What is known about a place where a salt may be left."""

    CLEAN = "clean"  # rewritten after the salt was destroyed, or looked at and not there
    OFF = "off"  # the server does not keep such a thing
    REFUSED = "refused"  # the server does not let us: an operator has to
    FAILED = "failed"  # it will be tried again


@dataclass(frozen=True, slots=True)
class Place:
    """One place on one server, and what an operator still has to do about it, if anything."""

    server: str
    place: str
    state: State
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a disposal."""

    at: str
    places: list[Place]

    @property
    def failed(self) -> list[Place]:
        return [place for place in self.places if place.state is State.FAILED]

    @property
    def refused(self) -> list[Place]:
        return [place for place in self.places if place.state is State.REFUSED]


def log_report(report: Report) -> None:
    """Logs a disposal's result, and what an operator has to do about it."""
    for place in report.failed:
        log.error(
            "a destroyed salt may be left; this is tried again",
            server=place.server,
            place=place.place,
            why=place.to_do,
        )
    for place in report.refused:
        log.error(
            "a destroyed salt may be left where the server does not let this process look",
            server=place.server,
            place=place.place,
            to_do=place.to_do,
        )
    if not report.failed and not report.refused:
        log.info("no earlier salt is left", places=len(report.places))
