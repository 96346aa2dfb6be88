"""Limits how many new sites a collector accepts in a minute.

With `SITES=*` the caller chooses the site's name, and each new site adds a row to every report. So
a collector accepts only some new sites each minute, and warns. Front-ends of others are answered
503, and try again later. A known site, or one in SITES, is never refused.
"""

import time
from collections.abc import Callable

import structlog

from collector.request.site import SitePolicy
from contract.collector_metrics import CollectorMetrics
from contract.errors import Retry
from runtime.periodic import Interval

# When a collector starts it knows no site, so it accepts those of this many minutes at once.
BURST_MINUTES = 10
_REMEMBERED = 16_384
_WARNED_SECONDS = 600.0
_BETWEEN_WARNINGS_SECONDS = 3600.0
_ADVICE = (
    "more new sites come than NEW_SITES_PER_MINUTE allows, and are answered 503: name your sites "
    "in SITES, and they are never refused"
)

log = structlog.get_logger()


class NewSites:
    """Remembers the sites of recent requests, and limits new ones."""

    def __init__(
        self,
        sites: SitePolicy,
        per_minute: int,
        metrics: CollectorMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """It accepts `per_minute` sites that SITES does not name, but ten times as many at once."""
        self._sites = sites
        self._per_second = per_minute / 60
        self._most = float(BURST_MINUTES * per_minute)
        self._left = self._most
        self._counter = metrics.new_sites
        self._clock = clock
        self._filled_at = clock()
        self._refused_at = float("-inf")
        self._warning = Interval(_BETWEEN_WARNINGS_SECONDS, clock)
        # At most twice `_REMEMBERED`; the least recently used are dropped first.
        self._recent: set[str] = set()
        self._earlier: set[str] = set()

    def admit(self, site: str) -> None:
        """
        Raises:
            Retry: too many new sites have come.
        """
        if site not in self._recent:
            self._admit_another(site)

    def warnings(self) -> dict[str, str | None]:
        """Whether a site was refused in the last ten minutes, for `/readyz`."""
        is_recent = self._clock() - self._refused_at < _WARNED_SECONDS
        return {"new_sites": _ADVICE if is_recent else None}

    def _admit_another(self, site: str) -> None:
        if site not in self._earlier and not self._sites.names(site):
            self._spend(self._clock())
            self._counter.inc()
        if len(self._recent) >= _REMEMBERED:
            self._earlier, self._recent = self._recent, set()
        self._recent.add(site)

    def _spend(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._left < 1:
            self._refused_at = now
            if self._warning.ended():
                log.warning(_ADVICE)
            raise Retry("new_sites", "too many new sites came at once")
        self._left -= 1
