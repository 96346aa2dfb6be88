"""The metrics in contract/: the names and labels that dashboards and alerts are built on."""

import ast
import tomllib
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from collector.request.crawlers.reason import Reason
from contract.collector_metrics import CollectorMetrics
from contract.flusher_metrics import FlusherMetrics
from contract.metric_kinds import FRESH_SECONDS, FreshGauge, PlainCounter, PlainHistogram
from contract.metrics import ProcessMetrics, RotationMetrics
from contract.version import VERSION
from tests.system import ROOT

Labels = tuple[str, ...]
Plain = FreshGauge | PlainCounter | PlainHistogram
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
    "impact_dead_letters": (FreshGauge, ()),
    "impact_upgrades_waiting": (FreshGauge, ()),
    "impact_stream_entries": (FreshGauge, ("shard",)),
    "impact_stream_pending": (FreshGauge, ("shard",)),
    "impact_oldest_entry_seconds": (FreshGauge, ("shard",)),
    "impact_buffer_used_ratio": (FreshGauge, ()),
    "impact_buffer_seconds_left": (FreshGauge, ()),
    "impact_flush_seconds": (Histogram, ("stage",)),
    "impact_end_to_end_seconds": (Histogram, ()),
}
ROTATION: dict[str, tuple[type[Metric], Labels]] = {
    "impact_rotations_total": (Counter, ()),
    "impact_salt_month_current": (FreshGauge, ()),
    "impact_earlier_salts_left": (FreshGauge, ()),
    "impact_disposal_unverified": (FreshGauge, ()),
}
PROCESS: dict[str, tuple[type[Metric], Labels]] = {"impact_build_info": (Gauge, ("version",))}
PROCESSES = [
    pytest.param(CollectorMetrics, COLLECTOR, id="collector"),
    pytest.param(FlusherMetrics, FLUSHER, id="flusher"),
    pytest.param(RotationMetrics, ROTATION, id="rotation"),
    pytest.param(ProcessMetrics, PROCESS, id="any"),
]
Process = type[CollectorMetrics | FlusherMetrics | ProcessMetrics | RotationMetrics]


LABELS = {"role", "route", "status", "kind", "reason", "shard", "stage", "version"}


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
    if isinstance(metric, FreshGauge | PlainCounter):
        return metric.label_names
    return tuple(metric._labelnames)


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
        if isinstance(metric, FreshGauge):
            metric.set(0, *labels_of(metric))
        elif labels_of(metric) and not isinstance(metric, PlainHistogram):
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
        assert set(labels_of(metric)) <= LABELS
    assert promised


def test_two_processes_can_share_a_registry() -> None:
    """No name means two things."""
    registry = CollectorRegistry()
    for process in (CollectorMetrics, FlusherMetrics, RotationMetrics, ProcessMetrics):
        process(registry)
    names = [family.name for family in registry.collect()]
    assert len(names) == len(set(names))


def test_a_plain_histogram_says_what_the_librarys_does() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    plain = PlainHistogram("seconds", "How long.", (0.1, 1, 2.5), registry=registry)
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
    plain = PlainCounter("seen", "What was seen.", ("kind", "status"), registry=registry)
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


def reasons_raised(decision: str, *folders: str) -> Iterator[str]:
    """The first text in each call of a decision's class; not what is put together there."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", "")
                texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
                words = [text for text in texts if isinstance(text, str)]
                if name == decision and words:
                    yield words[0]


def counted_from_the_start(process: Process, name: str) -> set[str]:
    """The words that a metric's one label has before anything was counted."""
    registry = CollectorRegistry()
    process(registry)
    return {
        next(iter(sample.labels.values()))
        for family in registry.collect()
        if family.name == f"impact_{name}"
        for sample in family.samples
        if sample.name == f"impact_{name}_total" and sample.value == 0
    }


def test_every_reason_that_is_known_is_counted_from_the_start() -> None:
    """Prometheus sees no increase in a counter that is born at 1: the first event would be lost."""
    rejected = {*reasons_raised("Reject", "collector"), "method", "disconnected"}
    assert counted_from_the_start(CollectorMetrics, "rejected") == rejected
    # "busy" is rotation's, and no answer to a request; "clocks" is ClocksDisagree's own.
    retried = reasons_raised("Retry", "collector", "runtime", "salt")
    failed = {*retried, "fault", "clocks"} - {"busy"}
    assert counted_from_the_start(CollectorMetrics, "failed") == failed
    ignored = {*Reason, "preflight", "page", "pageview"}
    assert counted_from_the_start(CollectorMetrics, "ignored") == ignored
    closed = {"slow", "too_many", "unread"}
    assert counted_from_the_start(CollectorMetrics, "connections_closed") == closed
    dead = set(reasons_raised("DeadLetter", "contract", "flusher"))
    assert counted_from_the_start(FlusherMetrics, "dead") == dead
    kinds = {"session", "upgrade"}
    assert counted_from_the_start(CollectorMetrics, "accepted") == kinds
    assert counted_from_the_start(FlusherMetrics, "written") == kinds
    assert counted_from_the_start(FlusherMetrics, "duplicate") == kinds


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_an_old_answer_is_not_told_by_a_gauge() -> None:
    """Its server is away, or who asks it is stuck: what it said last may long be untrue."""
    registry, clock = CollectorRegistry(), Clock()
    gauge = FreshGauge("waiting", "How many.", ("shard",), registry=registry, now=clock)
    gauge.set(5, 0)
    gauge.set(7, 1)
    clock.seconds += FRESH_SECONDS - 1
    gauge.set(8, 1)
    assert registry.get_sample_value("waiting", {"shard": "0"}) == 5
    clock.seconds += 2
    assert registry.get_sample_value("waiting", {"shard": "0"}) is None
    assert registry.get_sample_value("waiting", {"shard": "1"}) == 8


def test_a_gauge_may_have_a_word_for_what_is_not_known() -> None:
    registry, clock = CollectorRegistry(), Clock()
    gauge = FreshGauge("is_well", "Whether.", registry=registry, unknown=0, now=clock)
    assert registry.get_sample_value("is_well") == 0
    gauge.set(1)
    assert registry.get_sample_value("is_well") == 1
    clock.seconds += FRESH_SECONDS + 1
    assert registry.get_sample_value("is_well") == 0


def test_the_release_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    registry = CollectorRegistry()
    ProcessMetrics(registry)
    assert registry.get_sample_value("impact_build_info", {"version": VERSION}) == 1
