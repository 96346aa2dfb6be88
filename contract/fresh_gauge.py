"""A gauge for a value that a server answered: an old answer is not exported as if it were new.

A gauge of `prometheus_client` keeps its last value as long as its process lives. If the server is
away, or the code that asks it is stuck, that old value would say that all is well.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Servers are asked every few seconds, and may take some to answer.
FRESH_SECONDS: Final = 30.0


class FreshGauge(Collector):
    """Has a value for `FRESH_SECONDS`, and none after that."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry,
        unknown: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unknown`: what a gauge without labels shows while it has no fresh value; None: nothing.
        `now`: a monotonic clock, in seconds.
        """
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(labels)
        self._unknown = unknown
        self._now = now
        self._values: dict[tuple[str, ...], tuple[float, float]] = {}
        registry.register(self)

    def set(self, value: float, *labels: object) -> None:
        """Stores an answer that has just arrived."""
        self._values[tuple(map(str, labels))] = float(value), self._now()

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.label_names)
        oldest = self._now() - FRESH_SECONDS
        fresh = {words: value for words, (value, at) in self._values.items() if at >= oldest}
        if not fresh and self._unknown is not None:
            fresh = {(): self._unknown}
        for words, value in fresh.items():
            family.add_metric(words, value)
        yield family
