"""What is reported of salts: what was done, and the places where a destroyed one may be left."""

from dataclasses import dataclass
from enum import StrEnum

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


def log_outcome(ensured: Ensured) -> None:
    """Logs what was done about a month's salt."""
    month = str(ensured.term.month)
    match ensured.outcome:
        case Outcome.UNCHANGED:
            log.info("the month's salt was read", month=month)
        case Outcome.ROTATED:
            log.info(
                "a month has ended: its salt is destroyed and the next is in force", month=month
            )
        case Outcome.FIRST:
            log.warning("no salt was recorded: the first was made", month=month)
        case Outcome.RESTORED:
            log.error(
                "the month's salt had vanished and was put back: nobody is counted twice",
                month=month,
                to_do="check whether the salt's Redis has lost its data, or its clock has jumped",
            )
        case Outcome.ANOTHER_CALENDAR:
            log.error(
                "by rotation's calendar the earlier month goes on, so its salt stays in force",
                month=month,
                to_do="give this process the same CALENDAR_TIMEZONE as rotation",
            )
        case Outcome.LOST:
            log.error(
                "the month's salt was lost and a new one made: "
                "people who came before and come again count twice this month",
                month=month,
            )
        case Outcome.REPLACED:
            log.warning(
                "the month's salt was replaced: "
                "people who came before and come again count twice this month",
                month=month,
            )
        case Outcome.CLOCK_WENT_BACK:
            log.error(
                "the salt server's clock is in an earlier month than its salt: "
                "the later month goes on",
                month=month,
                to_do="check that clock; if it was ahead before and is right now: "
                "python -m rotation rotate --force",
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
