"""Metrics of plain numbers: Prometheus reads them, and counting costs almost nothing.

Those of `prometheus_client` take a lock for each number and look up each label. That costs 9 µs per
request, though the process counts in only one thread.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count:
    """One number of a `PlainCounter`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class PlainCounter(Collector):
    """A counter with labels, for one thread."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        """`name`: without the `_total` that Prometheus adds."""
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(labels)
        self._counts: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: object) -> Count:
        """The number for these labels. Keep it if you count often."""
        words = tuple(map(str, values))
        if len(words) != len(self.label_names):
            raise ValueError(f"{self.name} has {len(self.label_names)} labels, not {len(words)}")
        return self._counts.setdefault(words, Count())

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self.name, self.documentation, labels=self.label_names)
        for words, count in self._counts.items():
            family.add_metric(words, count.value)
        yield family


class PlainHistogram(Collector):
    """A histogram without labels, for one thread."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        *,
        registry: CollectorRegistry,
    ) -> None:
        """`buckets`: their upper bounds, ascending; a last one without a bound is added."""
        self.name = name
        self.documentation = documentation
        self._bounds = (*buckets, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, amount: float) -> None:
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def collect(self) -> Iterator[Metric]:
        """The buckets; each one includes those below it."""
        bounds = map(floatToGoString, self._bounds)
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self.name, self.documentation, buckets, self._sum)


def begin_at_zero(metric: Counter | Histogram | PlainCounter, words: tuple[str, ...]) -> None:
    """Makes it 0 for each value of its one label, so that its first increase can be seen."""
    for word in words:
        metric.labels(word)
