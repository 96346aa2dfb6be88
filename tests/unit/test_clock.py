"""Time is an argument: only the named files may read a clock."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCTION = ("contract", "runtime", "salt", "collector", "flusher", "rotation")

# These read the machine's clock. Other code uses `wall_clock`.
READ_THE_MACHINES = {
    "runtime/clock.py": "the only place in production",
    "tests/moved_clock.py": "checks whether a clock is moved",
    "bench/speed/baselines.py": "an application as most people write it",
}
# Production code that passes `wall_clock` on. All other code gets a `Clock`.
PASS_IT_ON = {"collector/__main__.py", "flusher/__main__.py", "rotation/__main__.py"}
# These read a server's clock, in SQL and Lua.
READ_A_SERVERS = {
    "flusher/postgres/sql/server_settings.sql": "compares it with ours",
    "flusher/postgres/sql/server_clock.sql": "which month can't have begun, with Redis's clock",
    "flusher/postgres/sql/purge_upgrades.sql": "how long ago the same server stored an upgrade",
    "flusher/postgres/sql/months_to_drop.sql": "which month it is, with the newest session's",
    "flusher/postgres/sql/note_check.sql": "when the counts were checked",
    "flusher/postgres/schema/0002_upgrades.sql": "when the server stored an upgrade",
    "flusher/postgres/schema/0005_months.sql": "when a month was dropped",
    "flusher/postgres/schema/0006_data_quality.sql": "which month is not over, and recent rows",
    "flusher/postgres/migrations_table.sql": "when a migration was applied",
    "flusher/postgres/sql/months_to_close.sql": "which months are over",
    "salt/rotate.lua": "which month it is: the salt's server decides",
}

_MACHINE = {
    "time": {"time", "time_ns", "gmtime", "localtime", "ctime", "asctime", "strftime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
_SERVER = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp)\s*\(|"
    r"\b(?:current_(?:date|time|timestamp)|localtime(?:stamp)?)\b|[\"']TIME[\"']",
    re.IGNORECASE,
)


def files(ending: str) -> Iterator[str]:
    """The project's files of one kind, by their path."""
    for folder in (*PRODUCTION, "embedded", "bench", "tests"):
        for path in (ROOT / folder).rglob(f"*{ending}"):
            yield path.relative_to(ROOT).as_posix()


def machine_clocks(tree: ast.AST) -> Iterator[int]:
    """The lines that read the machine's clock."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                if name in _MACHINE.get(owner, ()) or name == "CLOCK_REALTIME":
                    yield node.lineno
            case ast.ImportFrom(module="time", names=names):
                if any(alias.name in _MACHINE["time"] for alias in names):
                    yield node.lineno


@pytest.mark.parametrize(
    "code",
    [
        *("import time\ntime.time()", "import time\nlater = time.time_ns", "from time import time"),
        *(
            "import datetime\ndatetime.datetime.now(zone)",
            "from datetime import date\ndate.today()",
        ),
        "import time\ntime.clock_gettime(time.CLOCK_REALTIME)",
    ],
)
def test_the_rule_finds_all_ways_to_read_the_clock(code: str) -> None:
    assert list(machine_clocks(ast.parse(code)))


def test_only_the_named_files_read_the_machines_clock() -> None:
    found = {
        name for name in files(".py") if any(machine_clocks(ast.parse((ROOT / name).read_text())))
    }
    assert found == set(READ_THE_MACHINES)


def test_only_entry_points_pass_the_machines_clock_on() -> None:
    found = {
        name
        for name in files(".py")
        if name.startswith(PRODUCTION) and name != "runtime/clock.py"
        if re.search(r"\bwall_clock\b", (ROOT / name).read_text())
    }
    assert found == PASS_IT_ON


def test_only_the_named_files_read_a_servers_clock() -> None:
    found = set()
    for name in (*files(".sql"), *files(".lua")):
        lines = (ROOT / name).read_text().splitlines()
        if any(_SERVER.search(line.partition("--")[0]) for line in lines):
            found.add(name)
    assert found == set(READ_A_SERVERS)
