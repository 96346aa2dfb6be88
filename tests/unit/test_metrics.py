"""The metrics in contract/: the names, types and labels that dashboards and alerts use."""

import re
import tomllib
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from collector.request.crawlers.reason import Reason
from contract.collector_metrics import CollectorMetrics
from contract.flusher_metrics import FlusherMetrics
from contract.metric_kinds import FRESH_SECONDS, FreshGauge, PlainCounter, PlainHistogram
from contract.metrics import ProcessMetrics, RotationMetrics
from contract.version import VERSION
from tests.system import ROOT
from tests.unit.steady import Steady

# The promised ones, with their labels; `le`: a histogram. docs/operations.md has all of them, and
# tests/acceptance/test_handbook.py compares it.
PROMISED = """
impact_requests_total{route,status} impact_accepted_total{kind} impact_ignored_total{reason}
impact_rejected_total{reason} impact_failed_total{reason} impact_request_seconds{le}
impact_append_batch_size{le} impact_client_address_suspect{reason}

impact_written_total{kind} impact_duplicate_total{kind} impact_dead_total{reason}
impact_dead_letters{} impact_upgrades_waiting{} impact_stream_entries{shard}
impact_stream_pending{shard} impact_oldest_entry_seconds{shard} impact_buffer_used_ratio{}
impact_buffer_seconds_left{} impact_flush_seconds{le,stage} impact_end_to_end_seconds{le}

impact_rotations_total{} impact_salt_month_current{} impact_earlier_salts_left{}
impact_disposal_unverified{}

impact_build_info{version}
"""
# They are words of ours. A site or a user would be neither bounded nor ours to publish.
LABELS = {"route", "status", "kind", "reason", "shard", "stage", "version", "le", "role"}
Process = type[CollectorMetrics | FlusherMetrics | ProcessMetrics | RotationMetrics]
PROCESSES: tuple[Process, ...] = (
    *(CollectorMetrics, FlusherMetrics, RotationMetrics, ProcessMetrics),
)


def exposed(process: Process) -> dict[str, set[str]]:
    """The labels of each metric of a process, by its name."""
    registry = CollectorRegistry()
    for metric in vars(process(registry)).values():
        # A metric with labels is not shown before it has a value.
        if isinstance(metric, FreshGauge):
            metric.set(0, *metric.label_names)
        elif isinstance(metric, PlainCounter):
            metric.labels(*metric.label_names)
        elif isinstance(metric, Counter | Gauge | Histogram):
            with suppress(ValueError):  # it has no labels
                metric.labels("any")
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: {
            label for sample in family.samples for label in sample.labels
        }
        for family in registry.collect()
    }


def test_promised_metrics_have_their_labels_and_no_metric_has_another_label() -> None:
    found = {name: labels for process in PROCESSES for name, labels in exposed(process).items()}
    assert {*PROMISED.split()} <= {f"{name}{{{','.join(sorted(found[name]))}}}" for name in found}
    assert all(name.startswith("impact_") for name in found)
    assert set.union(*found.values()) <= LABELS


def lines(registry: CollectorRegistry) -> list[str]:
    text = generate_latest(registry).decode()
    return [line for line in text.split("\n") if "_created" not in line]


def test_plain_metrics_are_shown_like_the_librarys() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    seconds = PlainHistogram("seconds", "How long.", (0.1, 1, 2.5), registry=registry)
    its_seconds = Histogram("seconds", "How long.", buckets=(0.1, 1, 2.5), registry=other)
    for amount in (0, 0.1, 0.10001, 1, 2, 2.5, 3, 1e9):
        seconds.observe(amount)
        its_seconds.observe(amount)
    seen = PlainCounter("seen", "What was seen.", ("kind", "status"), registry=registry)
    its_seen = Counter("seen", "What was seen.", ("kind", "status"), registry=other)
    for kind, status, amount in (("a", 201, 1), ("b", 204, 2), ("a", 201, 3), ("a", 204, 1)):
        seen.labels(kind, status).inc(amount)
        its_seen.labels(kind, status).inc(amount)
    assert lines(registry) == lines(other)
    with pytest.raises(ValueError, match="2 labels"):
        seen.labels("a")


def reasons_raised(decision: str, *folders: str) -> set[str]:
    """The first text in each call of an error's class."""
    call = re.compile(rf'\b{decision}\(\s*(?:[\w.]+,\s*)?"(\w+)"')
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {reason for path in paths for reason in call.findall(path.read_text())}


def zeros(process: Process, name: str) -> set[str]:
    """The values of a counter's only label before anything was counted."""
    registry = CollectorRegistry()
    process(registry)
    return {
        next(iter(sample.labels.values()))
        for family in registry.collect()
        if family.name == f"impact_{name}"
        for sample in family.samples
        if sample.name == f"impact_{name}_total" and sample.value == 0
    }


def test_every_known_reason_is_counted_from_the_start() -> None:
    """Prometheus sees no increase in a counter that starts at 1: the first event would be lost."""
    # "busy" and "disposal" are rotation's, and answer no request; "clocks" is ClocksDisagree's own.
    retried = reasons_raised("Retry", "collector", "runtime", "salt") | {"fault", "clocks"}
    kinds = {"session", "upgrade"}
    collector = {
        "rejected": reasons_raised("Reject", "collector") | {"method", "disconnected"},
        "failed": retried - {"busy", "disposal"},
        "ignored": {*Reason, "preflight", "page", "pageview"},
        "connections_closed": {"slow", "too_many", "unread"},
        "accepted": kinds,
    }
    dead = reasons_raised("DeadLetter", "contract", "flusher")
    flusher = {"dead": dead, "written": kinds, "duplicate": kinds}
    assert {name: zeros(CollectorMetrics, name) for name in collector} == collector
    assert {name: zeros(FlusherMetrics, name) for name in flusher} == flusher


def test_a_gauge_does_not_show_an_old_value() -> None:
    """The server is away, or the query is stuck: what was true then may long be wrong."""
    registry, clock = CollectorRegistry(), Steady()
    gauge = FreshGauge("waiting", "How many.", ("shard",), registry=registry, now=clock)
    is_well = FreshGauge("is_well", "Whether.", registry=registry, unknown=0, now=clock)

    def shown() -> list[float | None]:
        shards = [registry.get_sample_value("waiting", {"shard": shard}) for shard in "01"]
        return [*shards, registry.get_sample_value("is_well")]

    assert shown() == [None, None, 0]
    for value, shard in ((5, 0), (7, 1)):
        gauge.set(value, shard)
    is_well.set(1)
    clock.seconds += FRESH_SECONDS - 1
    gauge.set(8, 1)
    assert shown() == [5, 8, 1]
    clock.seconds += 2
    assert shown() == [None, 8, 0]


def test_the_release_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
