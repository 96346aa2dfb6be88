"""The whole system as real processes, for tests that go from a request to a row."""

from embedded.ports import find_free_port
from embedded.system import (
    JWT_KEY,
    ROOT,
    Program,
    System,
    eventually,
    run_command,
)

__all__ = ["JWT_KEY", "ROOT", "Program", "System", "eventually", "find_free_port", "run_command"]
