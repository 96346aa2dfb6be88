"""`python -m tests.days`: the tests that look at a calendar, on other days.

pytest and everything that it starts (processes, Valkey, PostgreSQL) get a clock that is moved to an
instant when the run begins, and goes on from there.
"""

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

from contract.calendar import SECOND_US, from_us, to_us
from runtime.clock import wall_clock
from tests.moved_clock import (
    MOVED_VARIABLE,
    find_libfaketime,
    moved_environment,
    remove_leftovers,
)

INSTANTS: Final = {
    "first-minute-of-a-month": datetime(2027, 3, 1, 0, 1, tzinfo=UTC),
    "last-minutes-of-a-month": datetime(2027, 2, 28, 23, 58, tzinfo=UTC),
    "leap-day": datetime(2028, 2, 29, 12, tzinfo=UTC),
    "last-minute-of-a-year": datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
    "first-seconds-of-a-year": datetime(2027, 1, 1, 0, 0, 30, tzinfo=UTC),
    # Brussels changes its clocks at 01:00 UTC, one minute after these.
    "brussels-into-summer": datetime(2027, 3, 28, 0, 59, tzinfo=UTC),
    "brussels-into-winter": datetime(2027, 10, 31, 0, 59, tzinfo=UTC),
}
# Days from today.
DISTANCES: Final = {"four-years-ahead": 4 * 365 + 1, "two-years-back": -2 * 365}
DAYS: Final = (*INSTANTS, *DISTANCES)

# Files of tests that look at no calendar, by their folder: `test_*.py`.
_WITHOUT_A_CALENDAR: Final = {
    "acceptance": "behind_nginx deployed_redis",
    "adversity": "cluster connections failover floods kills outages",
    "integration": (
        "audit bounded_work cluster deploy embedded listener make_run readiness "
        "redis_connection restart same_answer"
    ),
    "unit": (
        "address_check append body client_address cluster_map crawlers "
        "documents header_fuzz listed lock_files redis_client "
        "schema_files service_manager site usual work"
    ),
}
LEFT_OUT: Final = {
    "tests/browser": "a browser's clock is its own, and its pages look at no calendar",
    "tests/integration/test_makefile.py": "make compares files' times, which are not moved",
    **{
        f"tests/{folder}/test_{name}.py": "it looks at no calendar"
        for folder, names in _WITHOUT_A_CALENDAR.items()
        for name in names.split()
    },
}


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.days) - set(DAYS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(DAYS)}")
    if arguments.list:
        print("\n".join(f"{name}: {_instant(name):%Y-%m-%d %H:%M:%S} UTC" for name in DAYS))
        return 0
    _, why = find_libfaketime()
    if why:
        print(f"no clock can be moved here: {why}", file=sys.stderr)
        return 1
    names = arguments.days or DAYS
    if arguments.rotating:
        first = from_us(wall_clock()).toordinal() * arguments.rotating
        names = [DAYS[(first + number) % len(DAYS)] for number in range(arguments.rotating)]
    for path, reason in LEFT_OUT.items():
        print(f"left out: {path}: {reason}")
    failed = [name for name in names if not _passes(name)]
    print(f"{len(names) - len(failed)} days passed, {len(failed)} failed", *failed)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.days", description=__doc__)
    parser.add_argument("days", metavar="DAY", nargs="*", help="default: all of --list")
    parser.add_argument(
        "--rotating",
        metavar="N",
        type=int,
        help="so many days, others tomorrow, and all of them in turn",
    )
    parser.add_argument("--list", action="store_true", help="the instants, and nothing more")
    return parser


def _instant(name: str) -> datetime:
    if name in INSTANTS:
        return INSTANTS[name]
    return from_us(wall_clock()) + timedelta(days=DISTANCES[name])


def _passes(name: str) -> bool:
    """Runs the tests at one instant."""
    instant = _instant(name)
    print(f"\n{name}: {instant:%Y-%m-%d %H:%M:%S} UTC", flush=True)
    remove_leftovers()
    seconds = (to_us(instant) - wall_clock()) / SECOND_US
    environment = {**os.environ, **moved_environment(seconds), MOVED_VARIABLE: f"{seconds:.3f}"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal"]
    command += ["-m", "not long", *(f"--ignore={path}" for path in LEFT_OUT)]
    return subprocess.run(command, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
