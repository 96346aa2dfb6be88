"""A gauge of what a server says: an old answer is not told as if it were true now.

A gauge of `prometheus_client` keeps its last value for as long as its process lives. Where the
server is away, or whoever asks it is stuck, that value says that all is well.
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
    """Has a value while that is fresh, and none from then on."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        *,
        unknown: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            name: as Prometheus has it.
            documentation: for whoever reads the page.
            labels: their names.
            registry: that it becomes part of.
            unknown: what it says, where it has no labels, while it has no fresh value; None: no
                sample.
            now: a steady clock's seconds.
        """
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(labels)
        self._unknown = unknown
        self._now = now
        self._values: dict[tuple[str, ...], tuple[float, float]] = {}
        registry.register(self)

    def set(self, value: float, *labels: object) -> None:
        """Takes an answer that has just come."""
        self._values[tuple(map(str, labels))] = float(value), self._now()

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.label_names)
        oldest = self._now() - FRESH_SECONDS
        fresh = {words: value for words, (value, at) in self._values.items() if at >= oldest}
        if not fresh and self._unknown is not None:
            fresh = {(): self._unknown}
        for words, value in fresh.items():
            family.add_metric(words, value)
        yield family
