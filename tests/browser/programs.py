"""The programs that these tests need and a machine may lack: three engines and node."""

import shutil

import pytest

from tests.browser.engines import ENGINES

_NO_NODE = "no node on the PATH (Debian: apt-get install nodejs)"


def require_node() -> str:
    """Its path; the test is left out, with the reason, where there is none."""
    return shutil.which("node") or pytest.skip(_NO_NODE)


def describe() -> str:
    """One line for the head of a test run."""
    engines = [
        f"{engine.name}: left out, {why}" if (why := engine.missing()) else engine.name
        for engine in ENGINES
    ]
    node = shutil.which("node") or f"{_NO_NODE}: the unit tests of beacon/ are left out"
    return f"browser: {'; '.join([*engines, node])}"
