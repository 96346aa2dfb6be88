"""Gives each test worker about as much work as the others, the longest files first.

`--dist worksteal` begins by cutting the list of tests into equal pieces, one for each worker; a
worker that is done takes from the end of another's. The tests of a file share servers, so that they
stay together.
"""

from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parent

# How many seconds of a processor the tests of a file, or of files that share servers, take, where
# that is more than four. Other figures only make `make test` a bit slower.
SECONDS: Final = {
    "browser/test_engines.py": 15,
    "browser": 40,
    "acceptance": 14,
    "acceptance/test_deployed_redis.py": 12,
    "acceptance/test_handbook.py": 12,
    "acceptance/test_least_privilege.py": 5,
    "acceptance/test_superset.py": 35,
    "adversity/test_canaries.py": 40,
    "adversity/test_kills.py": 6,
    "adversity/test_outages.py": 18,
    "adversity/test_salt_memory.py": 16,
    "adversity/test_salt_races.py": 9,
    "adversity/test_wrong_clocks.py": 17,
    "integration/test_cluster.py": 5,
    "integration/test_bounded_work.py": 5,
    "integration/test_commands.py": 14,
    "integration/test_deploy.py": 4,
    "integration/test_embedded.py": 7,
    "integration/test_ended_months.py": 9,
    "integration/test_flush_work.py": 6,
    "integration/test_import.py": 17,
    "integration/test_import_lines.py": 7,
    "integration/test_kept_counts.py": 9,
    "integration/test_load.py": 5,
    "integration/test_make_run.py": 13,
    "integration/test_merge_rules.py": 7,
    "integration/test_metabase.py": 2,
    "integration/test_moving.py": 5,
    "integration/test_pooler.py": 5,
    "integration/test_readiness.py": 4,
    "integration/test_report.py": 6,
    "integration/test_reporting.py": 7,
    "integration/test_roles.py": 10,
    "integration/test_salt_disposal.py": 14,
    "integration/test_same_answer.py": 8,
    "integration/test_write.py": 6,
}
_ON_ONE_SYSTEM: Final = {
    "acceptance/test_pages.py",
    "acceptance/test_real_callers.py",
    "acceptance/test_sessions.py",
}


def in_shares(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The same tests, as many workers' shares one behind the other."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_group(item), []).append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    # As worksteal cuts.
    rooms = [(len(items) + number) // workers for number in range(workers)]
    seconds = [0.0] * workers
    left: list[pytest.Item] = []
    for name, group in sorted(groups.items(), key=lambda named: (-_seconds(*named), named[0])):
        with_room = (n for n in range(workers) if len(shares[n]) + len(group) <= rooms[n])
        least = min(with_room, key=lambda number: seconds[number], default=None)
        if least is None:
            left += group
        else:
            seconds[least] += _seconds(name, group)
            shares[least] += group
    for share, room in zip(shares, rooms, strict=True):
        missing = room - len(share)
        share.extend(left[:missing])
        del left[:missing]
    shared = [item for share in shares for item in share]
    assert len(shared) == len(items), "a test was lost"
    return shared


def _seconds(name: str, group: list[pytest.Item]) -> float:
    each = 0.02 if name.startswith("unit/") else 0.15
    return SECONDS.get(name, each * len(group))


def _group(item: pytest.Item) -> str:
    name = item.path.relative_to(_ROOT).as_posix()
    if name in _ON_ONE_SYSTEM:
        return "acceptance"
    return "browser" if name.startswith("browser/") and name not in SECONDS else name
