"""What holds of all metrics, and the metrics of rotation and of every process.

The collector's are in `contract.collector_metrics`, the flusher's in `contract.flusher_metrics`.
Each metric is declared once, with its meaning. No label ever holds anything personal.

These equations hold at any moment:

    received = accepted + ignored + rejected + failed
    accepted = written + duplicate + dead + still in the streams

where received is `impact_requests_total` over all its labels. If a server is killed or cut off, it
is unknown whether a command without an answer was carried out. The right side of the second
equation may then be too large by up to `impact_append_unanswered_total` plus
`impact_acknowledge_unanswered_total`. The rows are right nevertheless, because a session's id makes
repeats the same row. If a process is killed, its counts since the last scrape are lost.

Prometheus can't see the increase of a counter that appears with its first event. So if the values
of a label are known, they all exist from the start, at 0. Unknown are the SQLSTATE of a dead
letter, and which route has which status.
"""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.metric_kinds import FreshGauge
from contract.version import VERSION


class ProcessMetrics:
    """Those of every process, in addition to Prometheus's own (`process_…`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.build_info = Gauge(
            "impact_build_info", "1, labelled with the release.", ("version",), registry=registry
        )
        self.build_info.labels(VERSION).set(1)


class RotationMetrics:
    """Rotation's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(FreshGauge, registry=registry)
        self.rotations = counter("impact_rotations", "Salts that this process has made.")
        self.clocks_disagreed = counter(
            "impact_clocks_disagreed",
            "Checks that left the salt unchanged because clocks contradict each other.",
        )
        self.salt_month_current = gauge(
            "impact_salt_month_current",
            "1 if the stored salt is the current month's; 0 if not, or if it is unknown.",
            unknown=0,
        )
        self.earlier_salts_left = gauge(
            "impact_earlier_salts_left",
            "Earlier months' salts that rotation found in all places that it can check.",
        )
        self.disposal_unverified = gauge(
            "impact_disposal_unverified",
            "Places (a server's file, its slow log) where the server refused the last disposal of "
            "a salt, so that an operator has to do it.",
        )
