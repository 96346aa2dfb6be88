"""The metrics that every process has."""

from prometheus_client import CollectorRegistry, ProcessCollector

from contract.metrics import ProcessMetrics


def make_registry() -> CollectorRegistry:
    """A registry with the release, and with Prometheus's own `process_…`: CPU, memory, files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    ProcessMetrics(registry)
    return registry
