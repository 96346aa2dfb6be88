"""tests/shares.py and tests/days.py: the files that they name exist."""

from tests.days import LEFT_OUT
from tests.shares import LONGEST
from tests.system import ROOT


def test_every_named_file_exists() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []
    assert [name for name in LEFT_OUT if not (ROOT / name).exists()] == []
