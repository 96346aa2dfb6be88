"""The programs that these tests need and a machine may lack: three engines and node."""

import shutil

import pytest

from tests.browser.engines import ENGINES


def require(package: str, *names: str) -> str:
    """The path of a program; the test is left out, with the reason, where there is none."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no {names[0]} on the PATH (Debian: apt-get install {package})")


def require_chromium() -> str:
    return require("chromium", "chromium", "chromium-browser")


def require_node() -> str:
    return require("nodejs", "node")


def describe() -> str:
    """One line for the head of a test run."""
    engines = [
        f"{engine.name}: left out, {why}" if (why := engine.missing()) else engine.name
        for engine in ENGINES
    ]
    node = shutil.which("node") or "no node on the PATH: the unit tests of beacon/ are left out"
    return f"browser: {'; '.join([*engines, node])}"
