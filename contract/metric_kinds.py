"""Kinds of metrics that `prometheus_client` does not have. Each exports values in its own way."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Servers are asked every few seconds, and may take some to answer.
FRESH_SECONDS: Final = 30.0


class _Metric(Collector):
    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(labels)
        registry.register(self)


class FreshGauge(_Metric):
    """A gauge for what a server answered: it has a value for `FRESH_SECONDS`, and none after that.

    A gauge of `prometheus_client` keeps its last value. If the server is away, or the code that
    asks it hangs, that old value would show that all is well.
    """

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
        self._unknown = unknown
        self._now = now
        self._values: dict[tuple[str, ...], tuple[float, float]] = {}
        super().__init__(name, documentation, labels, registry)

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


class Count:
    """One number of a `PlainCounter`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class PlainCounter(_Metric):
    """A counter with labels, for one thread.

    That of `prometheus_client` takes a lock for each number and looks up each label, which costs
    9 µs per request.
    """

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        """`name`: without the `_total` that Prometheus adds."""
        self._counts: dict[tuple[str, ...], Count] = {}
        super().__init__(name, documentation, labels, registry)

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


class PlainHistogram(_Metric):
    """A histogram without labels, for one thread; as cheap as `PlainCounter`."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        *,
        registry: CollectorRegistry,
    ) -> None:
        """`buckets`: their upper bounds, ascending; a last one without a bound is added."""
        self._bounds = (*buckets, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        super().__init__(name, documentation, (), registry)

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
