"""Time is an argument: only the named files may pass a clock on, or read a server's.

Who may read the machine's clock stands in pyproject.toml (ruff, TID251).
"""

import re
from pathlib import Path

from tests.system import ROOT

PRODUCTION = ("contract", "runtime", "salt", "collector", "flusher", "rotation")

# Production code that passes `wall_clock` on. All other code gets a `Clock`.
PASS_IT_ON = {"collector/__main__.py", "flusher/__main__.py", "rotation/__main__.py"}
# These read a server's clock, in SQL and Lua.
READ_A_SERVERS = {
    "flusher/postgres/sql/server_clock.sql": "which month can't have begun; compared with ours",
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
_SERVER = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp)\s*\(|"
    r"\b(?:current_(?:date|time|timestamp)|localtime(?:stamp)?)\b|[\"']TIME[\"']",
    re.IGNORECASE,
)


def files_with(expression: re.Pattern[str], folders: tuple[str, ...], *endings: str) -> set[str]:
    """The files in which it is found outside of SQL's comments, by their path."""

    def is_in(path: Path) -> bool:
        lines = path.read_text().splitlines()
        return any(expression.search(line.partition("--")[0]) for line in lines)

    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.suffix in endings and is_in(path)
    }


def test_only_entry_points_pass_the_machines_clock_on() -> None:
    found = files_with(re.compile(r"\bwall_clock\b"), PRODUCTION, ".py")
    assert found == PASS_IT_ON | {"runtime/clock.py"}


def test_only_the_named_files_read_a_servers_clock() -> None:
    folders = (*PRODUCTION, "embedded", "bench", "tests")
    assert files_with(_SERVER, folders, ".sql", ".lua") == set(READ_A_SERVERS)
