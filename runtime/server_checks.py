"""A warning for each setting of a server that breaks what this project promises.

The settings are checked when a process starts, and then every hour: a server that was replaced or
restarted may have other ones.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from contract.calendar import SECOND_US
from contract.errors import Misconfigured, Retry
from runtime.periodic import repeat
from runtime.stopping import Stopping

# More than this between two clocks is no matter of the network, and enough to put sessions around a
# month's end on the wrong side of it in reports by day.
CLOCKS_DIFFER_US: Final = 2 * SECOND_US

# The value of a setting that could not be looked at.
UNKNOWN: Final = "unknown"

_AGAIN_SECONDS: Final = 3600.0
_AWAY_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Broken:
    """A setting of a server, its value, why it matters, and what an operator should do.

    If it could not be checked, the value is `UNKNOWN`, and `why` says why not.
    `server` is the name of the setting that names the server.
    """

    server: str
    setting: str
    value: str
    why: str
    to_do: str


Examine = Callable[[], Awaitable[list[Broken]]]


def clock_difference(server: str, its_us: int, asked_us: int, answered_us: int) -> Broken | None:
    """The difference of a server's clock from ours; None if they agree. In microseconds.

    Args:
        server: the setting that names the server.
        its_us: the time of its clock.
        asked_us: the time of ours before the query.
        answered_us: the time of ours after it.
    """
    if asked_us - CLOCKS_DIFFER_US <= its_us <= answered_us + CLOCKS_DIFFER_US:
        return None
    ahead = (its_us - (asked_us + answered_us) / 2) / SECOND_US
    return Broken(
        server,
        "clock",
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this process's",
        "sessions are then stamped with a time that is not theirs",
        "see that time synchronisation runs on both machines",
    )


async def watch_servers(examinations: list[Examine], stopping: Stopping) -> None:
    """Checks servers now and every hour, until asked to stop; logs warnings."""
    left: list[Examine] = []  # whose server could not be looked at
    unverified: set[Broken] = set()

    async def look() -> None:
        nonlocal left
        left = [each for each in left or examinations if not await _warned(each, unverified)]

    await repeat(look, stopping, lambda: _AWAY_SECONDS if left else _AGAIN_SECONDS)


async def _warned(examine: Examine, unverified: set[Broken]) -> bool:
    """Logs warnings; returns whether the server could be checked.

    `unverified` has the settings that were already logged as such: each is logged once, because an
    account's rights do not change.
    """
    try:
        found = await examine()
    except (Retry, Misconfigured):
        return False  # the code that uses it says so
    for broken in found:
        if broken in unverified:
            continue
        if broken.value == UNKNOWN:
            unverified.add(broken)
            event = "a setting of a server could not be verified"
        else:
            event = "a setting of a server breaks a promise"
        log.warning(
            event,
            server=broken.server,
            setting=broken.setting,
            value=broken.value,
            why=broken.why,
            to_do=broken.to_do,
        )
    return True
