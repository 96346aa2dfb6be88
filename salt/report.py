"""What is reported of salts: what was done, and the places where a destroyed one may be left."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from salt.term import Ensured, Outcome

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


_TWICE = "people who came before and come again count twice this month"
_EVENTS: Final = {
    Outcome.UNCHANGED: "the month has its salt: nothing to do",
    Outcome.ROTATED: "a month has begun: its salt is in force, the earlier one destroyed",
    Outcome.FIRST: "no salt was recorded: the first was made",
    Outcome.LOST: f"the month's salt was lost and a new one made: {_TWICE}",
    Outcome.REPLACED: f"the month's salt was replaced: {_TWICE}",
    Outcome.RESTORED: "the month's salt had vanished and was put back: nobody is counted twice",
    Outcome.CLOCK_WENT_BACK: (
        "the salt server's clock is in an earlier month than its salt: the later month goes on"
    ),
    Outcome.ANOTHER_CALENDAR: (
        "by rotation's calendar the earlier month goes on, so its salt stays in force"
    ),
}
_TO_DO: Final = {
    Outcome.RESTORED: "check whether the salt's Redis has lost its data, or its clock has jumped",
    Outcome.CLOCK_WENT_BACK: (
        "check that clock; if it was ahead before and is right now: "
        "python -m rotation rotate --force"
    ),
    Outcome.ANOTHER_CALENDAR: "give this process the same CALENDAR_TIMEZONE as rotation",
}
_LEVELS: Final = {
    Outcome.UNCHANGED: logging.INFO,
    Outcome.ROTATED: logging.INFO,
    Outcome.FIRST: logging.WARNING,
    Outcome.REPLACED: logging.WARNING,
}


def describe_outcome(ensured: Ensured) -> str:
    """What was done about a month's salt, as a sentence."""
    to_do = _TO_DO.get(ensured.outcome)
    return f"{ensured.term.month}: {_EVENTS[ensured.outcome]}" + (f"; {to_do}" if to_do else "")


def log_outcome(ensured: Ensured) -> None:
    """Logs the same."""
    to_do = {"to_do": _TO_DO[ensured.outcome]} if ensured.outcome in _TO_DO else {}
    level = _LEVELS.get(ensured.outcome, logging.ERROR)
    log.log(level, _EVENTS[ensured.outcome], month=str(ensured.term.month), **to_do)


def log_doubt(event: str, why: str) -> None:
    """Logs that clocks contradict each other. `event`: what that means for this process."""
    log.error(
        event,
        why=why,
        to_do="compare the clocks of the salt's Redis, the streams' and this machine, and correct "
        "the wrong one; if a later month is then in force: python -m rotation rotate --force",
    )


def log_report(report: Report) -> None:
    for place in report.failed:
        event = "a destroyed salt may be left; this is tried again"
        log.error(event, server=place.server, place=place.place, why=place.to_do)
    for place in report.refused:
        event = "a destroyed salt may be left where the server refuses this process"
        log.error(event, server=place.server, place=place.place, to_do=place.to_do)
    if not report.failed and not report.refused:
        log.info("no earlier salt is left", places=len(report.places))
