"""The whole system as real processes, for tests that go from a request to a row."""

from embedded.system import (
    JWT_KEY,
    ROOT,
    Program,
    System,
    eventually,
    free_port,
    run_command,
)

__all__ = ["JWT_KEY", "ROOT", "Program", "System", "eventually", "free_port", "run_command"]
