"""tests/shares.py and tests/days.py: no test is lost, and the files that they name exist."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.days import LEFT_OUT
from tests.shares import SECONDS, in_shares
from tests.system import ROOT

NAMES = ("browser/test_engines.py", "browser/test_beacon.py", "adversity/test_kills.py")


def items(**numbers: int) -> list[Any]:
    """So many tests of each file of `unit/`, and some of files that take long."""
    paths = [
        ROOT / "tests" / "unit" / f"{name}.py" for name in numbers for _ in range(numbers[name])
    ]
    paths += [ROOT / "tests" / name for name in NAMES for _ in range(5)]
    return [SimpleNamespace(path=path, number=number) for number, path in enumerate(paths)]


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_each_test_is_in_one_share(workers: int) -> None:
    tests = items(a=60, b=3, c=17)
    shared = in_shares(tests, workers)
    assert Counter(test.number for test in shared) == Counter(test.number for test in tests)  # type: ignore[attr-defined]  # these have it


def test_every_named_file_exists() -> None:
    assert [name for name in SECONDS if not (ROOT / "tests" / name).exists()] == []
    assert [name for name in LEFT_OUT if not (ROOT / name).exists()] == []
