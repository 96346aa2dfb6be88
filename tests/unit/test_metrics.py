"""contract/metrics.py: the names and labels that dashboards and alerts are built on."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contract.metrics import CollectorMetrics, FlusherMetrics, RotationMetrics

Labels = tuple[str, ...]
Metric = Counter | Gauge | Histogram

COLLECTOR: dict[str, tuple[type[Metric], Labels]] = {
    "impact_requests_total": (Counter, ("route", "status")),
    "impact_accepted_total": (Counter, ("kind",)),
    "impact_ignored_total": (Counter, ("reason",)),
    "impact_rejected_total": (Counter, ("reason",)),
    "impact_failed_total": (Counter, ("reason",)),
    "impact_request_seconds": (Histogram, ()),
    "impact_append_batch_size": (Histogram, ()),
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
        f"{metric._name}_total" if isinstance(metric, Counter) else metric._name: metric
        for metric in metrics
    }


@pytest.mark.parametrize(("process", "promised"), PROCESSES)
def test_every_promised_metric_is_declared_with_exactly_its_labels(
    process: Process, promised: dict[str, tuple[type[Metric], Labels]]
) -> None:
    metrics = declared(process)
    assert {
        name: (type(metrics[name]), metrics[name]._labelnames)
        for name in promised
        if name in metrics
    } == promised


@pytest.mark.parametrize(("process", "promised"), PROCESSES)
def test_metrics_are_exposed_under_these_names(
    process: Process, promised: dict[str, tuple[type[Metric], Labels]]
) -> None:
    registry = CollectorRegistry()
    for metric in vars(process(registry)).values():
        if metric._labelnames:
            metric.labels(*metric._labelnames)
    text = generate_latest(registry).decode()
    for name, (kind, labels) in promised.items():
        shown = ",".join(f'{label}="{label}"' for label in labels)
        sample = f"{name}_count" if kind is Histogram else name
        assert f"\n{sample}{{{shown}}} 0.0\n" in text if labels else f"\n{sample} 0.0\n" in text


@pytest.mark.parametrize(("process", "promised"), PROCESSES)
def test_every_metric_is_the_projects_explained_and_without_anything_personal(
    process: Process, promised: dict[str, tuple[type[Metric], Labels]]
) -> None:
    """Labels are words of ours; a site or a user would be neither bounded nor ours to show."""
    for name, metric in declared(process).items():
        assert name.startswith("impact_")
        assert metric._documentation.endswith(".")
        assert set(metric._labelnames) <= {"route", "status", "kind", "reason", "shard", "stage"}
    assert promised


def test_two_processes_can_share_a_registry() -> None:
    """No name means two things."""
    registry = CollectorRegistry()
    for process in (CollectorMetrics, FlusherMetrics, RotationMetrics):
        process(registry)
