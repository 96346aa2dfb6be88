"""contract/metrics.py: the names and labels that dashboards and alerts are built on."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contract.metrics import CollectorMetrics, FlusherMetrics, RotationMetrics
from contract.plain_metrics import PlainCounter, PlainHistogram

Labels = tuple[str, ...]
Plain = PlainCounter | PlainHistogram
Metric = Counter | Gauge | Histogram | Plain

COLLECTOR: dict[str, tuple[type[Metric], Labels]] = {
    "impact_requests_total": (PlainCounter, ("route", "status")),
    "impact_accepted_total": (PlainCounter, ("kind",)),
    "impact_ignored_total": (Counter, ("reason",)),
    "impact_rejected_total": (Counter, ("reason",)),
    "impact_failed_total": (Counter, ("reason",)),
    "impact_request_seconds": (PlainHistogram, ()),
    "impact_append_batch_size": (PlainHistogram, ()),
    "impact_client_address_suspect": (Gauge, ("reason",)),
}
FLUSHER: dict[str, tuple[type[Metric], Labels]] = {
    "impact_written_total": (Counter, ("kind",)),
    "impact_duplicate_total": (Counter, ("kind",)),
    "impact_dead_total": (Counter, ("reason",)),
    "impact_upgrades_waiting": (Gauge, ()),
    "impact_stream_entries": (Gauge, ("shard",)),
    "impact_stream_pending": (Gauge, ("shard",)),
    "impact_oldest_entry_seconds": (Gauge, ("shard",)),
    "impact_flush_seconds": (Histogram, ("stage",)),
    "impact_end_to_end_seconds": (Histogram, ()),
}
ROTATION: dict[str, tuple[type[Metric], Labels]] = {
    "impact_rotations_total": (Counter, ()),
    "impact_salt_month_current": (Gauge, ()),
    "impact_earlier_salts_left": (Gauge, ()),
    "impact_disposal_unverified": (Gauge, ()),
}
PROCESSES = [
    pytest.param(CollectorMetrics, COLLECTOR, id="collector"),
    pytest.param(FlusherMetrics, FLUSHER, id="flusher"),
    pytest.param(RotationMetrics, ROTATION, id="rotation"),
]
Process = type[CollectorMetrics | FlusherMetrics | RotationMetrics]


def declared(process: Process) -> dict[str, Metric]:
    """A process's metrics by the name under which Prometheus sees them."""
    metrics = vars(process(CollectorRegistry())).values()
    return {
        f"{name_of(metric)}_total"
        if isinstance(metric, Counter | PlainCounter)
        else name_of(metric): metric
        for metric in metrics
    }


def name_of(metric: Metric) -> str:
    return metric.name if isinstance(metric, Plain) else metric._name


def documentation_of(metric: Metric) -> str:
    return metric.documentation if isinstance(metric, Plain) else metric._documentation


def labels_of(metric: Metric) -> Labels:
    if isinstance(metric, PlainHistogram):
        return ()
    return metric.label_names if isinstance(metric, PlainCounter) else tuple(metric._labelnames)


@pytest.mark.parametrize(("process", "promised"), PROCESSES)
def test_every_promised_metric_is_declared_with_exactly_its_labels(
    process: Process, promised: dict[str, tuple[type[Metric], Labels]]
) -> None:
    metrics = declared(process)
    assert {
        name: (type(metrics[name]), labels_of(metrics[name]))
        for name in promised
        if name in metrics
    } == promised


@pytest.mark.parametrize(("process", "promised"), PROCESSES)
def test_metrics_are_exposed_under_these_names(
    process: Process, promised: dict[str, tuple[type[Metric], Labels]]
) -> None:
    registry = CollectorRegistry()
    for metric in vars(process(registry)).values():
        if labels_of(metric) and not isinstance(metric, PlainHistogram):
            metric.labels(*labels_of(metric))
    text = generate_latest(registry).decode()
    for name, (kind, labels) in promised.items():
        shown = ",".join(f'{label}="{label}"' for label in labels)
        sample = f"{name}_count" if kind in (Histogram, PlainHistogram) else name
        assert f"\n{sample}{{{shown}}} 0.0\n" in text if labels else f"\n{sample} 0.0\n" in text


@pytest.mark.parametrize(("process", "promised"), PROCESSES)
def test_every_metric_is_the_projects_explained_and_without_anything_personal(
    process: Process, promised: dict[str, tuple[type[Metric], Labels]]
) -> None:
    """Labels are words of ours; a site or a user would be neither bounded nor ours to show."""
    for name, metric in declared(process).items():
        assert name.startswith("impact_")
        assert documentation_of(metric).endswith(".")
        assert set(labels_of(metric)) <= {"route", "status", "kind", "reason", "shard", "stage"}
    assert promised


def test_two_processes_can_share_a_registry() -> None:
    """No name means two things."""
    registry = CollectorRegistry()
    for process in (CollectorMetrics, FlusherMetrics, RotationMetrics):
        process(registry)
    names = [family.name for family in registry.collect()]
    assert len(names) == len(set(names))


def test_a_plain_histogram_says_what_the_librarys_does() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    plain = PlainHistogram("seconds", "How long.", (0.1, 1, 2.5), registry)
    theirs = Histogram("seconds", "How long.", buckets=(0.1, 1, 2.5), registry=other)
    for amount in (0, 0.1, 0.10001, 1, 2, 2.5, 3, 1e9):
        plain.observe(amount)
        theirs.observe(amount)
    expected = [
        line for line in generate_latest(other).decode().split("\n") if "_created" not in line
    ]
    assert generate_latest(registry).decode().split("\n") == expected


def test_a_plain_counter_says_what_the_librarys_does() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    plain = PlainCounter("seen", "What was seen.", ("kind", "status"), registry)
    theirs = Counter("seen", "What was seen.", ("kind", "status"), registry=other)
    for kind, status, amount in (("a", 201, 1), ("b", 204, 2), ("a", 201, 3), ("a", 204, 1)):
        plain.labels(kind, status).inc(amount)
        theirs.labels(kind, status).inc(amount)
    expected = [
        line for line in generate_latest(other).decode().split("\n") if "_created" not in line
    ]
    assert generate_latest(registry).decode().split("\n") == expected
    with pytest.raises(ValueError, match="2 labels"):
        plain.labels("a")
