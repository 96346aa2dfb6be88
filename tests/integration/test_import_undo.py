"""`python -m flusher import --undo`: exactly what imports of a name have stored."""

import asyncio
import signal
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg

from flusher.imports.line_batches import BATCH
from flusher.postgres import locks
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start
from tests.integration.importing import HEAD, OF_SITE, run_import, start_import
from tests.integration.keeping import keeper_of
from tests.live_counts import views_and_live_counts_that_differ
from tests.system import eventually

LARGE = 3 * BATCH


def written(file: Path, *numbers: int, month: str = "2024-01") -> Path:
    """Sessions of ten people, some of them signed in."""
    file.write_text(
        HEAD
        + "".join(
            f"{n},{n % 10:064x},{'user' if n % 3 else ''},{month}-{n % 28 + 1:02} 10:11:12\n"
            for n in numbers
        )
    )
    return file


async def everything(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    assert await views_and_live_counts_that_differ(connection) == []
    return list(
        await connection.fetch(
            "SELECT to_jsonb(s) FROM sessions s UNION ALL SELECT to_jsonb(m) FROM monthly_impact m "
            "UNION ALL SELECT to_jsonb(d) FROM daily_impact d ORDER BY 1"
        )
    )


async def test_an_import_is_taken_back_and_what_was_there_before_stays(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Of the collector, of another import, and of other sessions of the same people."""
    async with Database(dsn) as database:
        await SessionWriter(database, ZoneInfo("UTC")).write(batch_of(start(), start(role="user")))
    await run_import(dsn, written(tmp_path / "right.csv", *range(100)), OF_SITE)
    before = await everything(connection)
    wrong = written(tmp_path / "wrong.csv", *range(50, 500))
    assert (await run_import(dsn, wrong, OF_SITE))[1].startswith(
        "450 lines: 400 imported, 50 known"
    )
    more = written(tmp_path / "wrong.csv", *range(600, 700), month="2024-03")
    assert (await run_import(dsn, more, OF_SITE))[1].startswith("100 lines: 100 imported")
    assert await everything(connection) != before
    said = "wrong.csv: 500 sessions, 2024-01 to 2024-03, runs: 2\n"
    code, output, errors = await run_import(dsn, "--undo", "wrong.csv", "--dry-run")
    assert (code, output, errors) == (0, said + "nothing was taken back\n", "")
    code, output, errors = await run_import(dsn, "--undo", "wrong.csv")
    assert (code, output, errors) == (0, said + "taken back: 500 sessions\n", "")
    assert await everything(connection) == before
    async with Database(dsn) as database:
        assert await check_counts(database) == []
    code, output, errors = await run_import(dsn, "--undo", "wrong.csv")
    assert (code, output) == (2, "")
    assert "no import is called 'wrong.csv'; there are right.csv" in errors
    assert (await run_import(dsn, more, OF_SITE))[1].startswith("100 lines: 100 imported")


async def test_a_closed_months_import_is_taken_back(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Its instants are coarse and its rows written anew; the ids are still the import's."""
    await run_import(dsn, written(tmp_path / "right.csv", *range(30)), OF_SITE, "--name", "right")
    await run_import(
        dsn, written(tmp_path / "wrong.csv", *range(90)), OF_SITE, "--name", "the wrong"
    )

    async with Database(dsn) as database:
        keeper = keeper_of(database, "day")
        assert len(await keeper.close()) == 1
        code, output, errors = await run_import(dsn, "--undo", "the wrong")
        assert (code, errors) == (0, "")
        assert output.endswith("taken back: 60 sessions\n")
        assert await check_counts(database) == []
        assert await connection.fetchval("SELECT count(*) FROM sessions") == 30
        assert len(await keeper.close()) == 1, "what was deleted goes out of the files, too"


async def test_what_was_dropped_stays_in_the_counts_and_is_told(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await run_import(dsn, written(tmp_path / "a.csv", *range(40), month="2023-05"), OF_SITE)
    await run_import(dsn, written(tmp_path / "a.csv", *range(40, 60), month="2023-06"), OF_SITE)
    await connection.execute(
        "UPDATE flusher.months SET closed_at = now(); SELECT flusher.drop_month('2023-05-01')"
    )
    code, output, errors = await run_import(dsn, "--undo", "a.csv")
    assert (code, errors) == (
        1,
        (
            "2023-05: 40 were not there: its sessions were dropped (SESSIONS_KEPT_MONTHS), and its "
            "counts are final\n"
        ),
    )
    assert output.endswith("taken back: 20 sessions\n")
    rows = await connection.fetch("SELECT sessions FROM monthly_impact")
    assert [row["sessions"] for row in rows] == [40]


async def test_an_undo_that_was_interrupted_is_run_again(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "large.csv", *range(LARGE))
    await run_import(dsn, file, OF_SITE)
    holding = connection.transaction()
    await holding.start()
    await locks.take(connection, Lock.UPGRADES)
    process = await start_import(dsn, "--undo", "large.csv")
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    await eventually(lambda: connection.fetchval(waiting))
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    await holding.rollback()
    assert (process.returncode, errors) == (
        1,
        b"error: interrupted: run it again for the rest\n",
    )
    assert await connection.fetchval("SELECT count(*) FROM sessions") == LARGE
    code, output, _ = await run_import(dsn, "--undo", "large.csv")
    assert (code, output.splitlines()[-1]) == (0, f"taken back: {LARGE:,} sessions")
    assert await everything(connection) == []


async def test_an_import_and_its_undo_at_once_leave_nothing_unknown(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Whatever the import stores after the undo has looked can be undone."""
    file = written(tmp_path / "large.csv", *range(LARGE))
    importing = asyncio.create_task(run_import(dsn, file, OF_SITE))

    async def stored() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM flusher.imports"))

    await eventually(stored)
    code, _, errors = await run_import(dsn, "--undo", "large.csv")
    assert (code, errors) == (0, "")
    assert (await importing)[0] == 0
    if await stored():
        assert (await run_import(dsn, "--undo", "large.csv"))[0] == 0
    assert await everything(connection) == []
    assert await stored() == 0
