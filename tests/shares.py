"""Which tests stay together on one test worker, and which begin first.

`--dist loadgroup` gives each worker that is free the next group. A group is a file, whose tests
share servers. The longest begin first, so that the workers end at about the same time.
"""

from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parent
_ON_ONE_SYSTEM: Final = {
    f"acceptance/test_{name}.py" for name in ("pages", "real_callers", "sessions")
}
_ENGINES: Final = "browser/test_engines.py"
# Its tests share nothing, and take many minutes each.
_ALERTS: Final = "adversity/test_alerts.py"

# How the groups begin. Another order only makes `make test` a bit slower.
LONGEST: Final = (
    _ALERTS,
    "acceptance/test_units.py",
    "acceptance/test_superset.py",
    "browser",
    "adversity/test_canaries.py",
    "integration/test_import.py",
    "adversity/test_outages.py",
    "adversity/test_wrong_clocks.py",
    "acceptance/test_deployed_redis.py",
    "adversity/test_salt_memory.py",
    "acceptance",
    "integration",
    "adversity",
)


def share(items: list[pytest.Item]) -> None:
    """Marks each test with its group, and sorts the longest to the front."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    group = _group(item)
    return next((n for n, name in enumerate(LONGEST) if group.startswith(name)), len(LONGEST))


def _group(item: pytest.Item) -> str:
    name = item.path.relative_to(_ROOT).as_posix()
    if name == _ALERTS:
        return f"{name} {item.name}"
    if name in _ON_ONE_SYSTEM:
        return "acceptance"
    return "browser" if name.startswith("browser/") and name != _ENGINES else name
