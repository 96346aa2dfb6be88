"""`python -m flusher import`: the earlier system's sessions, each once, and nothing passed over."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from flusher.postgres import locks
from flusher.postgres.locks import Lock
from tests.live_counts import views_and_live_counts_that_differ
from tests.system import ROOT, eventually, run_command

HEAD = "id,monthly_user_hash,highest_role,created_at\n"
# Some batches of an import.
LARGE = 35_000
ANNA, BEN = "a1" * 32, "b2" * 32
LINES = (
    f"1,{ANNA},,2024-01-05 10:11:12.123456\n"
    f"2,{ANNA},user,2024-01-31 23:30:00\n"
    f"3,{BEN},super_admin,2024-02-01T00:30:00+01:00\n"
    f"9f0e7a52-5b1f-4c1e-9d4c-0d6a3c1f2b77,{BEN.upper()},,2024-02-01 12:00:00 UTC\n"
)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "sessions.csv"
    file.write_text(HEAD + LINES)
    return file


async def run_import(dsn: str, *arguments: object, **environment: str) -> tuple[int, str, str]:
    words = [str(argument) for argument in arguments]
    return await run_command("flusher", "import", *words, DATABASE_URL=dsn, **environment)


async def test_history_is_in_the_same_report(
    connection: asyncpg.Connection, dsn: str, csv: Path
) -> None:
    code, output, errors = await run_import(dsn, csv, "--site", "City.example.org")
    assert (code, errors) == (0, ""), errors
    assert "4 sessions imported, 0 were there already, 0 lines are wrong" in output
    rows = await connection.fetch("SELECT * FROM monthly_impact ORDER BY month")
    assert [(str(r["month"]), r["site"], r["sessions"], r["unique_users"]) for r in rows] == [
        ("2024-01-01", "city.example.org", 3, 2),
        ("2024-02-01", "city.example.org", 1, 1),
    ]
    hashes = await connection.fetch("SELECT DISTINCT monthly_user_hash AS hash FROM sessions")
    assert {row["hash"].version for row in hashes} == {8}, "as the collector makes them"
    assert len(hashes) == 2
    roles = await connection.fetch(
        "SELECT highest_role FROM sessions ORDER BY created_at, highest_role DESC"
    )
    assert [row["highest_role"] for row in roles] == [None, "user", "super_admin", None]
    assert await views_and_live_counts_that_differ(connection) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
async def test_an_import_that_was_interrupted_is_run_again(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path, sent: signal.Signals
) -> None:
    file = tmp_path / "many.csv"
    lines = (
        f"{number},{number % 700:064x},,2024-0{number % 3 + 1}-05 10:11:12\n"
        for number in range(LARGE)
    )
    file.write_text(HEAD + "".join(lines))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flusher", "import", str(file), "--site=city.example.org"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def stored() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM sessions"))

    await eventually(stored)
    holding = connection.transaction()
    await holding.start()
    # In the middle of a batch, since each waits for this before it commits.
    await locks.take(connection, Lock.UPGRADES)
    first = await stored()
    assert 0 < first < LARGE
    process.send_signal(sent)
    output, errors = await process.communicate()
    await holding.rollback()
    assert output == b""
    if sent == signal.SIGINT:
        assert process.returncode == 1
        said = f"error: interrupted: {first:,} sessions imported, 0 were there already"
        assert errors.decode().startswith(said)
        assert errors.decode().endswith("run it again for the rest, each session is stored once\n")
        assert errors.count(b"\n") == 1
    else:
        assert process.returncode == -signal.SIGKILL
    assert await stored() == first, "of the batch that was interrupted nothing is stored"

    code, said, _ = await run_import(dsn, file, "--site=city.example.org")
    assert code == 0
    assert said.startswith(
        f"{LARGE - first:,} sessions imported, {first:,} were there already, 0 lines are wrong"
    )
    assert await stored() == LARGE
    assert await views_and_live_counts_that_differ(connection) == []


async def test_import_may_be_repeated_and_raced(
    connection: asyncpg.Connection, dsn: str, csv: Path
) -> None:
    ended = await asyncio.gather(
        *(run_import(dsn, csv, SITES="city.example.org") for _ in range(3))
    )
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    assert sum(int(output.split()[0]) for _, output, _ in ended) == 4
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 4
    code, output, _ = await run_import(dsn, csv, SITES="city.example.org")
    assert (code, output.split(",")[1]) == (0, " 4 were there already")
    assert await views_and_live_counts_that_differ(connection) == []


async def test_each_site_has_ids_of_its_own(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """The earlier system numbered them in each site's own database."""
    file = tmp_path / "sites.csv"
    line = f"1,{ANNA},,2024-01-05 10:11:12"
    file.write_text(
        HEAD.replace("\n", ",site\n") + f"{line},a.example.org\n{line},b.example.org\n{line},\n"
    )
    code, _, errors = await run_import(dsn, file, "--site", "c.example.org")
    assert (code, errors) == (0, "")
    assert await connection.fetchval("SELECT count(DISTINCT site) FROM sessions") == 3


async def test_wrong_lines_are_told_by_their_number_and_the_rest_is_imported(
    connection: asyncpg.Connection, dsn: str, csv: Path
) -> None:
    await connection.execute(
        "SELECT flusher.create_month('2023-05-01');"
        "UPDATE flusher.months SET closed_at = now();"
        "SELECT flusher.drop_month('2023-05-01')"
    )
    with csv.open("ab") as file:
        file.write(f"5,abc,,2024-01-05\n6,{ANNA},,yesterday\n,{ANNA},,2024-01-05\n".encode())
        file.write(f"8,{ANNA},user\n9,{ANNA},,2924-01-05\n10,{ANNA},\xff".encode("latin-1"))
        file.write(f",2024-01-05\n11,{ANNA},,2023-05-05\n12,{ANNA},,2024-03-05\n".encode())
        file.write("".join(f"{n},abc,,2024-01-05\n" for n in range(100, 130)).encode())
    code, output, errors = await run_import(dsn, csv, "--site", "city.example.org")
    assert code == 1
    assert "5 sessions imported, 0 were there already, 37 lines are wrong" in output
    lines = errors.splitlines()
    assert lines[:7] == [
        "line 6: monthly_user_hash is not 64 hex digits",
        "line 7: created_at is not a date and time (ISO 8601)",
        "line 8: id is empty",
        "line 9: it has more or fewer fields than the first line",
        "line 10: created_at is before the year 2000 or in a month that has not come",
        "line 11: highest_role is not UTF-8",
        "line 12: the sessions of 2023-05 were dropped (SESSIONS_KEPT_MONTHS)",
    ]
    assert lines[-1] == "… and 17 more"
    assert ANNA not in errors, "what a line holds is not shown"
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 5


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, ("--site", "a.example.org"), "FILE.csv: No such file or directory"),
        ("", ("--site", "a.example.org"), "FILE.csv: its first line does not name id,"),
        ("id,created_at\n", ("--site", "a.example.org"), "monthly_user_hash, highest_role"),
        (HEAD, (), "--site: the file has no column `site`"),
        (HEAD, ("--site", "http://a"), "--site: 'http://a' is not a host name"),
    ],
)
async def test_wrong_usage_is_one_clear_line(
    dsn: str, tmp_path: Path, content: str | None, arguments: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "sessions.csv"
    if content is not None:
        file.write_text(content)
    code, output, errors = await run_import(dsn, file, *arguments)
    assert (code, output) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1


async def test_what_the_database_refuses_is_one_line(
    dsn: str, csv: Path, connection: asyncpg.Connection
) -> None:
    """Somebody has given the table a rule of their own."""
    await connection.execute("ALTER TABLE sessions ADD CHECK (site <> 'city.example.org')")
    code, output, errors = await run_import(dsn, csv, "--site", "city.example.org")
    assert (code, output, errors.count("\n")) == (1, "", 1), errors
    assert "is refused: CheckViolationError (sqlstate_23514)" in errors
