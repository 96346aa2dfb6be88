"""`python -m flusher import`: each session is stored once, and an import can be undone."""

import asyncio
import gzip
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from contract.errors import Retry
from flusher.imports.line_batches import BATCH
from flusher.imports.store import ImportWriter, Run
from flusher.postgres import locks
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from flusher.postgres.write import SessionWriter
from tests.events import batch_of, start
from tests.instant import UTC
from tests.integration.importing import (
    HEAD,
    OF_SITE,
    SITE,
    batch_of_lines,
    run_import,
    start_import,
)
from tests.integration.keeping import keeper_of
from tests.live_counts import check_views
from tests.system import eventually, until

ANNA, BEN = "a1" * 32, "b2" * 32
LINES = (
    f"1,{ANNA},,2024-01-05 10:11:12.123456\n"
    f"2,{ANNA},user,2024-01-31 23:30:00\n"
    f"3,{BEN},super_admin,2024-02-01T00:30:00+01:00\n"
    f"9f0e7a52-5b1f-4c1e-9d4c-0d6a3c1f2b77,{BEN.upper()},,2024-02-01 12:00:00 UTC\n"
)
GOOD = f"1,{ANNA},,2024-01-05 10:11:12\n"


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "sessions.csv"
    file.write_text(HEAD + LINES)
    return file


async def stored(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM sessions"))


async def test_history_is_in_the_same_report(
    connection: asyncpg.Connection, dsn: str, csv: Path
) -> None:
    """A dry run says what it would be, and stores nothing."""
    told = "4 lines: 4 imported, 0 known before, 0 wrong; 2 signed in, 2024-01 to 2024-02"
    ended = await run_import(dsn, csv, "--site", "City.example.org", "--dry-run")
    assert ended == (0, f"nothing was stored, this would be: {told}\n", "")
    for table in ("sessions", "flusher.imports", "flusher.months", "flusher.counts"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    code, output, errors = await run_import(dsn, csv, "--site", "City.example.org")
    assert (code, errors) == (0, ""), errors
    assert output.startswith(f"{told}\n")
    rows = await connection.fetch("SELECT * FROM monthly_impact ORDER BY month")
    assert [(str(r["month"]), r["site"], r["sessions"], r["unique_users"]) for r in rows] == [
        ("2024-01-01", SITE, 3, 2),
        ("2024-02-01", SITE, 1, 1),
    ]
    hashes = await connection.fetch("SELECT DISTINCT monthly_user_hash AS hash FROM sessions")
    assert [row["hash"].version for row in hashes] == [8, 8], "as the collector makes them"
    roles = await connection.fetch(
        "SELECT highest_role FROM sessions ORDER BY created_at, highest_role DESC"
    )
    assert [row["highest_role"] for row in roles] == [None, "user", "super_admin", None]
    await check_views(connection)


async def interrupt(
    connection: asyncpg.Connection, process: Process, sent: signal.Signals, rest: bytes = b""
) -> tuple[int, str]:
    """Sends a signal in the middle of a batch, which is of `rest` if the process reads its standard
    input; how many sessions there are, and standard error.
    """
    holding = connection.transaction()
    await holding.start()
    # Each batch waits for this lock before it commits.
    await locks.take(connection, Lock.UPGRADES)
    if process.stdin is not None:
        process.stdin.write(rest)
        process.stdin.write_eof()
    await eventually(lambda: connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    there = await stored(connection)
    process.send_signal(sent)
    _, errors = await process.communicate()
    await holding.rollback()
    assert process.returncode == (1 if sent == signal.SIGINT else -sent)
    assert await stored(connection) == there, "the interrupted batch changed nothing"
    return there, errors.decode()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
async def test_an_interrupted_import_can_be_run_again(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path, sent: signal.Signals
) -> None:
    lines = [
        f"{number},{number % 700:064x},,2024-0{number % 3 + 1}-05 10:11:12\n"
        for number in range(BATCH + 1_000)
    ]
    file = tmp_path / "many.csv"
    file.write_text(HEAD + "".join(lines))
    process = await start_import(dsn, "-", OF_SITE, "--name=many")
    assert process.stdin is not None
    process.stdin.write((HEAD + "".join(lines[:BATCH])).encode())
    await eventually(lambda: stored(connection))
    rest = "".join(lines[BATCH:]).encode()
    first, errors = await interrupt(connection, process, sent, rest)
    assert first == BATCH
    if sent == signal.SIGINT:
        said = f"error: interrupted: {BATCH:,} lines: {BATCH:,} imported, 0 known before, 0 wrong"
        assert errors.startswith(said)
        assert errors.endswith("run it again for the rest, each session is stored once\n")
        assert errors.count("\n") == 1
    code, output, _ = await run_import(dsn, file, OF_SITE, "--name=many")
    assert code == 0
    assert output.startswith(
        f"{BATCH + 1_000:,} lines: 1,000 imported, {BATCH:,} known before, 0 wrong"
    )
    assert await stored(connection) == BATCH + 1_000
    await check_views(connection)


async def test_imports_may_be_repeated_and_may_run_at_once(
    connection: asyncpg.Connection, dsn: str, csv: Path
) -> None:
    """Without `--site` they take the only one of `SITES`."""
    ended = await asyncio.gather(
        *(run_import(dsn, csv, SITES="köln.example.org") for _ in range(3))
    )
    assert [code for code, _, _ in ended] == [0, 0, 0], ended
    assert sum(int(output.split()[2]) for _, output, _ in ended) == 4
    assert await stored(connection) == 4
    code, output, _ = await run_import(dsn, csv, SITES="köln.example.org")
    assert (code, output) == (0, "4 lines: 0 imported, 4 known before, 0 wrong\n")
    await check_views(connection)


async def test_wrong_lines_are_named_by_their_number_and_the_rest_is_imported(
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
        file.write(f",2024-01-05\n11,{ANNA},,2023-05-05\n12,{ANNA},chief,2024-03-05\n".encode())
        file.write("".join(f"{n},abc,,2024-01-05\n" for n in range(100, 130)).encode())
    ranks = "super_admin,chief,user"
    code, output, errors = await run_import(dsn, csv, OF_SITE, JWT_ROLE_RANK=ranks)
    assert code == 1
    assert output.startswith("42 lines: 5 imported, 0 known before, 37 wrong; 3 signed in")
    assert errors.splitlines() == [
        "line 6: monthly_user_hash is not 64 hex digits",
        "line 7: created_at is not a date and time (ISO 8601)",
        "line 8: id is empty",
        "line 9: it has more or fewer fields than the first line",
        "line 10: created_at is before the year 2000 or in a month that has not come",
        "line 11: highest_role is none of JWT_ROLE_RANK, nor empty",
        "line 12: the sessions of 2023-05 were dropped (SESSIONS_KEPT_MONTHS)",
        "lines 14 to 43: monthly_user_hash is not 64 hex digits",
    ]
    assert ANNA not in errors, "what a line holds is not shown"
    assert await stored(connection) == 5


FILE = "sessions.csv"
UNREADABLE: dict[str, tuple[str | bytes | None, str]] = {
    "no file": (None, "FILE.csv: No such file or directory"),
    "columns": ("id,created_at\n", "hash, highest_role"),
    "empty": ("", "name id, monthly_user_hash, highest_role, created_at"),
    "empty line": ("\n\n" + HEAD, "it is empty"),
    "id twice": ("id,id," + HEAD[3:] + GOOD, "names id 2 times: which"),
    "no names": (GOOD * 2, "it is a session, and no line"),
    "separator": (HEAD.replace(",", "^"), "(--separator) it names id^monthly_user_hash"),
    "quotation": ('"id,' + HEAD, "mark in it is not closed"),
    "zip": ("PK\3\4abcdefgh", "a spreadsheet or a ZIP file"),
    "zstd": (b"\x28\xb5\x2f\xfdabcdefgh", "zstdcat FILE | python -m flusher import -"),
    "cut gzip": (gzip.compress(HEAD.encode() * 9)[:20], "its compressed data end too early"),
    "no text": (bytes(range(1, 9)), "it is no"),
}


@pytest.mark.parametrize(("content", "said"), UNREADABLE.values(), ids=UNREADABLE)
async def test_a_file_that_can_not_be_read_is_explained_before_the_database_is_asked(
    tmp_path: Path, content: str | bytes | None, said: str
) -> None:
    file = tmp_path / FILE
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, output, errors = await run_import("postgresql://nowhere/impact", file, OF_SITE)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert said in errors
    assert ANNA not in errors


USAGE = "usage: python -m flusher import"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((FILE,), "--site: the file has no column `site`"),
        ((FILE, "--site=http://a"), "--site: 'http://a' is not a host"),
        ((), USAGE),
        ((FILE, "--undo", FILE), USAGE),
        (("--undo", FILE, "--site=a.example.org"), USAGE),
        ((FILE, "--separator", "ab"), USAGE),
        ((FILE, "--name", ""), USAGE),
    ],
)
async def test_wrong_usage_is_explained_before_the_database_is_asked(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    file = tmp_path / FILE
    file.write_text(HEAD)
    words = [file if word == FILE else word for word in arguments]
    code, output, errors = await run_import("postgresql://nowhere/impact", *words)
    assert (code, output) == (2, "")
    assert said in errors


async def test_a_row_that_the_database_refuses_is_one_line(
    dsn: str, csv: Path, connection: asyncpg.Connection
) -> None:
    """An operator has added a rule to the table."""
    await connection.execute(f"ALTER TABLE sessions ADD CHECK (site <> '{SITE}')")
    code, output, errors = await run_import(dsn, csv, OF_SITE)
    assert (code, output, errors.count("\n")) == (1, "", 1), errors
    assert "is refused: after 0 lines" in errors
    assert "CheckViolationError (sqlstate_23514)" in errors


async def import_text(dsn: str, tmp_path: Path, text: str, *more: str) -> tuple[int, str, str]:
    file = tmp_path / "given.csv"
    file.write_text(text)
    return await run_import(dsn, file, OF_SITE, *more)


async def test_a_repeat_within_the_file_is_told_apart_from_one_of_the_database(
    dsn: str, tmp_path: Path
) -> None:
    """In one batch, and in another; with a dry run, and without."""
    first = [f"{n},{n:064x},,2024-01-05\n" for n in range(10)]
    code, output, _ = await import_text(dsn, tmp_path, HEAD + "".join(first))
    assert output.startswith("10 lines: 10 imported")
    end = BATCH + 5
    more = [f"{n},{n:064x},,2024-01-05\n" for n in range(5, end)]
    lines = "".join([*more, more[100], more[-10], more[0], f"0011,{ANNA},,2024-01-05\n"])
    told = (
        f"{end - 1:,} lines: {end - 10:,} imported, 6 known before, 3 wrong; "
        "0 signed in, 2024-01 to 2024-01"
    )
    for arguments in (["--dry-run"], []):
        code, output, errors = await import_text(dsn, tmp_path, HEAD + lines, *arguments)
        assert code == 1
        assert told in output
        assert errors == (
            f"lines {end - 3} to {end - 2}: its id is that of an earlier line\n"
            f"line {end}: its id is that of an earlier line\n"
        )


async def test_a_session_whose_time_was_corrected_is_the_same_session(
    dsn: str, tmp_path: Path
) -> None:
    """Also where that moves it over a month's end."""
    lines = f"1,{ANNA},,2024-01-31 23:30\n2,{ANNA},,2024-03-01 00:30\n"
    await import_text(dsn, tmp_path, HEAD + lines)
    corrected = f"0001,{ANNA},,2024-02-01 00:30\n2,{ANNA},,2024-02-29 23:30\n"
    code, output, _ = await import_text(dsn, tmp_path, HEAD + corrected)
    assert (code, output) == (0, "2 lines: 0 imported, 2 known before, 0 wrong\n")


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
async def test_standard_input_is_a_file(
    connection: asyncpg.Connection, dsn: str, file: str
) -> None:
    lines = "".join(f"{n},{n:064x},,2024-01-05 10:11:12\n" for n in range(12_345))
    process = await start_import(dsn, file, OF_SITE)
    output, errors = await process.communicate(gzip.compress((HEAD + lines).encode()))
    assert (process.returncode, errors) == (0, b"")
    assert output.startswith(b"12,345 lines: 12,345 imported")
    assert output.endswith(b"import --undo stdin\n")
    assert await stored(connection) == 12_345


async def test_ctrl_c_ends_an_import_that_waits_for_standard_input(dsn: str) -> None:
    process = await start_import(dsn, "-", OF_SITE)
    assert process.stdin is not None
    process.stdin.write((HEAD + GOOD).encode())
    await process.stdin.drain()
    await until(lambda: waits_for_input(process.pid))
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        assert await process.wait() == 1
    errors = await process.stderr.read() if process.stderr else b""
    assert errors.startswith(b"error: interrupted")
    assert errors.count(b"\n") == 1


def waits_for_input(process: int) -> bool:
    """Whether one of its threads waits for standard input."""
    kernels_functions = [file.read_text() for file in Path(f"/proc/{process}/task").glob("*/wchan")]
    return any("pipe_read" in name or "unix_stream" in name for name in kernels_functions)


async def test_sessions_are_found_in_months_that_were_empty_when_the_import_began(
    connection: asyncpg.Connection, database: Database
) -> None:
    """There COPY finds the repeats within the file, except those on the other side of a month's
    end. Nothing is known before, until another import stores something there.
    """
    first = [f"{n},{ANNA},,2024-01-31 12:00" for n in range(6)]
    moved = [f"{n},{ANNA},,2024-02-01 12:00" for n in range(6)]
    one, two = b"import", b"second"

    async def write(run: bytes, *lines: str) -> tuple[list[int], list[int], int]:
        outcome = await writers[run].write(batch_of_lines(lines, run))
        return list(outcome.new), list(outcome.repeats), outcome.known

    writers = {run: ImportWriter(database, UTC, Run(run, "some")) for run in (one, two)}
    assert await write(one, *first[:2]) == ([0, 1], [], 0)
    assert await write(one, *first[1:3]) == ([1], [0], 0), "of an earlier batch"
    assert await write(one, *moved[2:4]) == ([1], [0], 0), "in the month before"
    assert await write(one, first[3]) == ([], [0], 0), "in the month that follows"
    assert await write(two, first[0], moved[1], first[4]) == ([2], [], 2)
    assert await write(one, *first[4:]) == ([1], [], 1), "the other import has stored it since"
    assert await write(one, *first, *moved) == ([], [0, 1, 2, 3, 5, 6, 7, 8, 9, 11], 2)
    assert await stored(connection) == 6
    await check_views(connection)


class ForgetfulDatabase(Database):
    """Its next answer to a commit is lost."""

    forgets = True

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        async with super().connection() as connection:
            yield connection
        stored = await connection.fetchval("SELECT count(*) FROM flusher.imports")
        if self.forgets and stored:
            self.forgets = False
            raise Retry("postgres", "the answer was lost")


async def test_a_commit_whose_answer_was_lost_is_counted_once(
    connection: asyncpg.Connection, dsn: str
) -> None:
    """And its lines are new: neither known before, nor repeats of each other."""
    lines = [f"{n},{ANNA},,2024-01-05" for n in (1, 2, 3, 2)]
    async with ForgetfulDatabase(dsn) as database:
        writer = ImportWriter(database, UTC, Run(b"import", "some"))
        outcome = await writer.write(batch_of_lines(lines))
        assert not database.forgets
        assert (len(outcome.new), outcome.known, outcome.repeats) == (3, 0, [3])
        outcome = await writer.write(batch_of_lines(lines[:1]))
        assert (len(outcome.new), outcome.known, outcome.repeats) == (0, 0, [0])
    assert await connection.fetchval("SELECT sum(sessions) FROM flusher.imports") == 3
    await check_views(connection)


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
    sessions = await connection.fetch("SELECT * FROM sessions ORDER BY month, id")
    return [*sessions, *await check_views(connection)]


async def test_an_import_is_taken_back_and_what_was_there_before_stays(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Of the collector, of another import, and of other sessions of the same people."""
    async with Database(dsn) as database:
        await SessionWriter(database, UTC).write(batch_of(start(), start(role="user")))
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
    ended = await run_import(dsn, "--undo", "wrong.csv", "--dry-run")
    assert ended == (0, said + "nothing was taken back\n", "")
    ended = await run_import(dsn, "--undo", "wrong.csv")
    assert ended == (0, said + "taken back: 500 sessions\n", "")
    assert await everything(connection) == before
    async with Database(dsn) as database:
        assert await check_counts(database) == []
    code, output, errors = await run_import(dsn, "--undo", "wrong.csv")
    assert (code, output) == (2, "")
    assert "no import is called 'wrong.csv'; there are right.csv" in errors
    assert (await run_import(dsn, more, OF_SITE))[1].startswith("100 lines: 100 imported")


async def test_a_closed_months_import_is_taken_back(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path, database: Database
) -> None:
    """Its instants are coarse and its rows written anew; the ids are still the import's."""
    await run_import(dsn, written(tmp_path / "right.csv", *range(30)), OF_SITE, "--name", "right")
    await run_import(
        dsn, written(tmp_path / "wrong.csv", *range(90)), OF_SITE, "--name", "the wrong"
    )

    keeper = keeper_of(database, "day")
    assert len(await keeper.close()) == 1
    code, output, errors = await run_import(dsn, "--undo", "the wrong")
    assert (code, errors) == (0, "")
    assert output.endswith("taken back: 60 sessions\n")
    assert await check_counts(database) == []
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 30
    assert len(await keeper.close()) == 1, "what was deleted goes out of the files, too"


async def test_dropped_sessions_stay_in_the_counts_and_are_reported(
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


async def test_an_interrupted_undo_can_be_run_again(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await run_import(dsn, written(tmp_path / "some.csv", *range(1_000)), OF_SITE)
    process = await start_import(dsn, "--undo", "some.csv")
    ended = await interrupt(connection, process, signal.SIGINT)
    assert ended == (1_000, "error: interrupted: run it again for the rest\n")
    code, output, _ = await run_import(dsn, "--undo", "some.csv")
    assert (code, output.splitlines()[-1]) == (0, "taken back: 1,000 sessions")
    assert await everything(connection) == []


async def test_an_import_and_its_undo_at_once_leave_nothing_unknown(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Whatever the import stores after the undo has looked can be undone."""
    file = written(tmp_path / "large.csv", *range(2 * BATCH + 5_000))
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
