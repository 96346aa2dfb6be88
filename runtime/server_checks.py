"""Warns of each setting of a server that breaks a promise of this project.

The settings are checked when a process starts, and then every hour, because a server that was
replaced or restarted may have other settings.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Final

import structlog

from contract.calendar import SECOND_US
from contract.errors import Misconfigured, Retry
from runtime.periodic import repeat
from runtime.stopping import Stopping

# A greater difference of two clocks is not caused by the network, and puts sessions near a month's
# end into the wrong month in reports by day.
CLOCKS_DIFFER_US: Final = 2 * SECOND_US

# The value of a setting that could not be read.
UNKNOWN: Final = "unknown"

_AGAIN_SECONDS: Final = 3600.0
_AWAY_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Broken:
    """A setting of a server, its value, why it matters, and what an operator should do.

    `server` is the name of our setting that has the server's URL. If the setting could not be
    checked, its value is `UNKNOWN` and `why` is the reason.
    """

    server: str
    setting: str
    value: str
    why: str
    to_do: str


Examine = Callable[[], Awaitable[list[Broken]]]


def clock_difference(server: str, its_us: int, asked_us: int, answered_us: int) -> Broken | None:
    """The difference of a server's clock (`its_us`) from ours; None if they agree.

    `server`: as in `Broken`. `asked_us`, `answered_us`: our clock before and after the query.
    """
    if asked_us - CLOCKS_DIFFER_US <= its_us <= answered_us + CLOCKS_DIFFER_US:
        return None
    ahead = (its_us - (asked_us + answered_us) / 2) / SECOND_US
    return Broken(
        server,
        "clock",
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this process's",
        "sessions are then stored with a wrong time",
        "check that time synchronisation runs on both machines",
    )


async def watch_servers(examinations: list[Examine], stopping: Stopping) -> None:
    """Checks servers now and every hour, until asked to stop; logs warnings."""
    left: list[Examine] = []  # whose server did not answer
    unverified: set[Broken] = set()

    async def check() -> None:
        nonlocal left
        left = [each for each in left or examinations if not await _warned(each, unverified)]

    await repeat(check, stopping, lambda: _AWAY_SECONDS if left else _AGAIN_SECONDS)


async def _warned(examine: Examine, unverified: set[Broken]) -> bool:
    """Logs warnings; returns whether the server could be checked.

    `unverified`: settings that could not be checked. Each is logged only once, because an account's
    rights do not change.
    """
    try:
        found = await examine()
    except (Retry, Misconfigured):
        return False  # the code that uses the server logs this
    for broken in found:
        if broken in unverified:
            continue
        if broken.value == UNKNOWN:
            unverified.add(broken)
            event = "a setting of a server could not be verified"
        else:
            event = "a setting of a server breaks a promise"
        log.warning(event, **asdict(broken))
    return True
