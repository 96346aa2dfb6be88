"""The programs that these tests need and a machine may lack: three engines and node."""

import shutil

import pytest

from tests.browser.engines import ENGINES


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


def find_node() -> str | None:
    return shutil.which("node")


def require_chromium() -> str:
    """Chromium's path; the test is left out, with the reason, where there is none."""
    path = find_chromium()
    if path is None:
        pytest.skip("no chromium on the PATH (Debian: apt-get install chromium)")
    return path


def require_node() -> str:
    """The path of node; the test is left out, with the reason, where there is none."""
    path = find_node()
    if path is None:
        pytest.skip("no node on the PATH (Debian: apt-get install nodejs)")
    return path


def describe() -> str:
    """One line for the head of a test run."""
    engines = [
        f"{engine.name}: left out, {why}" if (why := engine.missing()) else engine.name
        for engine in ENGINES
    ]
    node = find_node() or "no node on the PATH: the unit tests of beacon/ are left out"
    return f"browser: {'; '.join([*engines, node])}"
