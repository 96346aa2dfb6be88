"""`python -m flusher import`: the earlier system's sessions, each once, and nothing passed over."""

import asyncio
import bz2
import gzip
import lzma
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from contract.calendar import Month
from contract.errors import Retry
from flusher.imports.csv_line import read_layout
from flusher.imports.earlier_sessions import EarlierSessions, Importable
from flusher.imports.line_batches import BATCH, LineBatch, line_batches
from flusher.imports.store import ImportWriter, Run
from flusher.postgres import locks
from flusher.postgres.database import Database
from flusher.postgres.locks import Lock
from tests.live_counts import views_and_live_counts_that_differ
from tests.system import ROOT, eventually, run_command

HEAD = "id,monthly_user_hash,highest_role,created_at\n"
# Some batches of an import.
LARGE = 3 * BATCH + 5_000
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
    assert "4 lines: 4 imported, 0 known before, 0 wrong; 2 signed in, 2024-01 to 2024-02" in output
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

    async def waits() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await eventually(waits)  # and knows that the batch before was committed
    first = await stored()
    assert 0 < first < LARGE
    process.send_signal(sent)
    output, errors = await process.communicate()
    await holding.rollback()
    assert output == b""
    if sent == signal.SIGINT:
        assert process.returncode == 1
        said = f"error: interrupted: {first:,} lines: {first:,} imported, 0 known before, 0 wrong"
        assert errors.decode().startswith(said)
        assert errors.decode().endswith("run it again for the rest, each session is stored once\n")
        assert errors.count(b"\n") == 1
    else:
        assert process.returncode == -signal.SIGKILL
    assert await stored() == first, "of the batch that was interrupted nothing is stored"

    code, said, _ = await run_import(dsn, file, "--site=city.example.org")
    assert code == 0
    assert said.startswith(
        f"{LARGE:,} lines: {LARGE - first:,} imported, {first:,} known before, 0 wrong"
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
    assert sum(int(output.split()[2]) for _, output, _ in ended) == 4
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 4
    code, output, _ = await run_import(dsn, csv, SITES="city.example.org")
    assert (code, output) == (0, "4 lines: 0 imported, 4 known before, 0 wrong\n")
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
    assert output.startswith("42 lines: 5 imported, 0 known before, 37 wrong")
    lines = errors.splitlines()
    assert lines == [
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
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 5


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, ("--site", "a.example.org"), "FILE.csv: No such file or directory"),
        (
            "",
            ("--site", "a.example.org"),
            "does not name id, monthly_user_hash, highest_role, created_at: it is empty",
        ),
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
    assert "is refused: after 0 lines" in errors
    assert "CheckViolationError (sqlstate_23514)" in errors


GOOD = f"1,{ANNA},,2024-01-05 10:11:12\n"


async def import_text(
    dsn: str, tmp_path: Path, text: str | bytes, *arguments: str, name: str = "given.csv"
) -> tuple[int, str, str]:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return await run_import(dsn, file, "--site=city.example.org", *arguments)


async def test_markers_of_an_empty_field_are_visitors_and_no_roles(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    r"""What \copy, SQL, JSON, Ruby, Python and pandas write where there is nothing."""
    markers = ("", " ", "\\N", "NULL", "null", "nil", "None", "nan", "NaN")
    lines = [f"{n},{n:064x},{marker},2024-01-05\n" for n, marker in enumerate(markers, 1)]
    lines += [f"{n},{n:064x},user,2024-01-05\n" for n in (101,)]
    code, output, errors = await import_text(dsn, tmp_path, HEAD + "".join(lines))
    assert (code, errors) == (0, "")
    assert output.startswith("10 lines: 10 imported, 0 known before, 0 wrong; 1 signed in,")
    (row,) = await connection.fetch("SELECT * FROM monthly_impact")
    assert (row["signed_in_sessions"], row["visitor_sessions"]) == (1, 9)


async def test_what_is_no_role_is_told_and_no_role(dsn: str, tmp_path: Path) -> None:
    """Whatever else a program writes for nothing: `#N/A`, `undefined`, `0`."""
    lines = "".join(
        f"{n},{ANNA},{role},2024-01-05\n"
        for n, role in enumerate(("#N/A", "undefined", "0", "(null)", "User", "moderator"), 1)
    )
    code, _, errors = await import_text(dsn, tmp_path, HEAD + lines)
    assert (code, errors) == (
        1,
        "lines 2 to 7: highest_role is none of JWT_ROLE_RANK, nor empty\n",
    )
    file = tmp_path / "given.csv"
    arguments = (file, "--site=city.example.org")
    code, output, _ = await run_import(dsn, *arguments, JWT_ROLE_RANK="moderator,user")
    assert output.startswith("6 lines: 1 imported, 0 known before, 5 wrong; 1 signed in")


async def test_a_marker_of_an_empty_field_is_no_site(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """`NULL` could be a host's name."""
    lines = "".join(f"{n},{ANNA},,2024-01-05,{s}\n" for n, s in enumerate(("NULL", "\\N", "")))
    code, _, errors = await import_text(dsn, tmp_path, HEAD.replace("\n", ",site\n") + lines)
    assert (code, errors) == (0, "")
    sites = await connection.fetch("SELECT DISTINCT site FROM sessions")
    assert [row["site"] for row in sites] == ["city.example.org"]


@pytest.mark.parametrize("damage", ['5,"', '5,"x"y', '"5', '5,"",'])
async def test_a_quotation_mark_costs_its_own_line_and_no_other(
    dsn: str, tmp_path: Path, damage: str
) -> None:
    lines = [f"{n},{n:064x},,2024-01-05\n" for n in range(3000)]
    lines[1499] = f"{damage}{ANNA},,2024-01-05\n"
    code, output, errors = await import_text(dsn, tmp_path, HEAD + "".join(lines))
    assert code == 1
    assert output.startswith("3,000 lines: 2,999 imported, 0 known before, 1 wrong")
    assert errors.startswith("line 1501: ")
    assert errors.count("\n") == 1


async def test_an_id_that_a_spreadsheet_rounded_is_told(dsn: str, tmp_path: Path) -> None:
    lines = "".join(f"1.23457E+15,{n:064x},,2024-01-05\n" for n in range(50))
    code, output, errors = await import_text(dsn, tmp_path, HEAD + lines)
    assert code == 1
    assert output == "50 lines: 0 imported, 0 known before, 50 wrong\n"
    assert errors == (
        "lines 2 to 51: id is neither a whole number nor a UUID (spreadsheets round long numbers)\n"
    )


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


async def test_a_dry_run_stores_nothing(
    connection: asyncpg.Connection, dsn: str, csv: Path
) -> None:
    code, output, errors = await run_import(dsn, csv, "--site=a.example.org", "--dry-run")
    assert (code, errors) == (0, "")
    said = "4 lines: 4 imported, 0 known before, 0 wrong; 2 signed in, 2024-01 to 2024-02"
    assert output == f"nothing was stored, this would be: {said}\n"
    for table in ("sessions", "flusher.imports", "flusher.months", "flusher.all_counts"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    code, output, _ = await run_import(dsn, csv, "--site=a.example.org")
    assert output.startswith(f"{said}\n")


async def test_a_session_whose_time_was_mended_is_the_same(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Also where that takes it over a month's end; and one that an earlier release imported."""
    lines = f"1,{ANNA},,2024-01-31 23:30\n2,{ANNA},,2024-03-01 00:30\n"
    await import_text(dsn, tmp_path, HEAD + lines)
    mended = f"0001,{ANNA},,2024-02-01 00:30\n2,{ANNA},,2024-02-29 23:30\n"
    code, output, _ = await import_text(dsn, tmp_path, HEAD + mended)
    assert (code, output) == (0, "2 lines: 0 imported, 2 known before, 0 wrong\n")
    # As the release before this one stored session 1 of this site.
    octets = bytearray(sha256(b"earlier session\0old.example.org\x001").digest()[:16])
    octets[6], octets[8] = octets[6] & 0x0F | 0x80, octets[8] & 0x3F | 0x80
    await connection.execute("SELECT flusher.create_month('2024-05-01')")
    await connection.execute(
        "INSERT INTO sessions VALUES ($1, '2024-05-01', 'old.example.org', $1, NULL, '2024-05-05')",
        UUID(bytes=bytes(octets)),
    )
    file = tmp_path / "old.csv"
    file.write_text(f"{HEAD}1,{ANNA},,2024-05-05\n")
    code, output, _ = await run_import(dsn, file, "--site=old.example.org")
    assert output == "1 line: 0 imported, 1 known before, 0 wrong\n"


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("0001-01-01T00:00:00+02:00", "is before the year 2000 or in a month that has not come"),
        ("9999-12-31T23:59:59-02:00", "is before the year 2000 or in a month that has not come"),
        ("1999-12-31T23:59:59Z", "is before the year 2000 or in a month that has not come"),
        ("05/01/2024 10:11", "is not a date and time (ISO 8601)"),
        ("", "is not a date and time (ISO 8601)"),
        ("\\N", "is not a date and time (ISO 8601)"),
    ],
)
async def test_a_time_that_is_none_is_told(dsn: str, tmp_path: Path, at: str, why: str) -> None:
    code, output, errors = await import_text(dsn, tmp_path, f"{HEAD}{GOOD}2,{BEN},,{at}\n")
    assert (code, errors) == (1, f"line 3: created_at {why}\n")
    assert output.startswith("2 lines: 1 imported, 0 known before, 1 wrong")


@pytest.mark.parametrize(
    "content",
    [
        (HEAD + LINES).encode("utf-8-sig"),
        (HEAD + LINES).encode("utf-16"),
        (HEAD + LINES).encode("utf-16-le"),
        (HEAD + LINES).encode("utf-16-be"),
        (HEAD + LINES).replace("\n", "\r\n").encode(),
        (HEAD + LINES).replace("\n", "\r").encode(),
        (HEAD + LINES).replace(",", ";").encode(),
        (HEAD + LINES).replace(",", "\t").encode("utf-16"),
        (HEAD + LINES).replace(",", "|").encode(),
        ("ID, Monthly User Hash ,HIGHEST-ROLE,Created_At\n" + LINES).encode(),
        "".join(f'"{line}"\n' for line in (HEAD + LINES).replace(",", '","').splitlines()).encode(),
        gzip.compress((HEAD + LINES).encode()),
        gzip.compress(HEAD.encode()) + gzip.compress(LINES.encode()),
        gzip.compress((HEAD + LINES).encode("utf-16")),
        bz2.compress((HEAD + LINES).encode()),
        lzma.compress((HEAD + LINES).encode()),
        (HEAD + LINES).rstrip("\n").encode(),
    ],
    ids=[
        *("bom", "utf-16", "utf-16-le", "utf-16-be", "crlf", "cr", "semicolon", "excel-text"),
        *("bar", "names", "quoted", "gz", "gz-members", "gz-utf-16", "bz2", "xz", "no-end"),
    ],
)
async def test_what_programs_write_is_recognised(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path, content: bytes
) -> None:
    code, output, errors = await import_text(dsn, tmp_path, content)
    assert (code, errors) == (0, "")
    assert output.startswith("4 lines: 4 imported, 0 known before, 0 wrong; 2 signed in")
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 4


async def test_a_separator_may_be_given(dsn: str, tmp_path: Path) -> None:
    """One that is not looked for."""
    text = (HEAD + LINES).replace(",", "^")
    code, output, errors = await import_text(dsn, tmp_path, text, "--separator=^")
    assert (code, errors) == (0, "")
    assert output.startswith("4 lines: 4 imported")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,id," + HEAD[3:] + GOOD, "its first line names id 2 times: which is it?"),
        (GOOD + GOOD, "it is a session, and no line with the columns' names comes before it"),
        (HEAD.replace(",", "^"), "separated by ',' (--separator) it names id^monthly_user_hash"),
        ('"id,' + HEAD, "a quotation mark in it is not closed"),
        ("PK\x03\x04abcdefgh", "is a spreadsheet or a ZIP file"),
        (b"\x28\xb5\x2f\xfdabcdefgh", "zstdcat FILE | python -m flusher import -"),
        (gzip.compress(HEAD.encode() * 9)[:20], "its compressed data end too early"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08", "it is not text"),
        ("\n\n" + HEAD, "it is empty"),
    ],
    ids=[
        *("id-twice", "no-names", "separator", "quotation-mark", "spreadsheet", "zstd", "cut-gz"),
        *("no-text", "empty-line"),
    ],
)
async def test_what_can_not_be_read_says_why(
    dsn: str, tmp_path: Path, content: str | bytes, said: str
) -> None:
    code, output, errors = await import_text(dsn, tmp_path, content)
    assert (code, output, errors.count("\n")) == (2, "", 1), errors
    assert said in errors
    assert ANNA not in errors


async def test_compressed_data_that_end_early_are_told_where(dsn: str, tmp_path: Path) -> None:
    lines = "".join(f"{n},{os.urandom(32).hex()},,2024-01-05\n" for n in range(3000))
    whole = gzip.compress((HEAD + lines).encode())
    code, output, errors = await import_text(dsn, tmp_path, whole[: len(whole) // 2])
    assert code == 1
    number = int(output.split()[2].replace(",", ""))
    assert 0 < number < 3000
    assert errors == (
        f"line {number + 2}: nothing can be read from here on: its compressed data end too early\n"
    )


async def test_an_id_has_one_form(dsn: str, tmp_path: Path) -> None:
    """Databases write UUIDs in small letters, and some programs in capitals or without dashes."""
    id_ = "9f0e7a52-5b1f-4c1e-9d4c-0d6a3c1f2b77"
    ids = (id_, id_.upper(), id_.replace("-", ""), "{" + id_ + "}", "9f0e_7a52-5b1f-4c1e-9d4c-0d6a")
    lines = "".join(f"{each},{ANNA},,2024-01-05\n" for each in ids)
    code, output, errors = await import_text(dsn, tmp_path, HEAD + lines)
    assert (code, output.splitlines()[0][:46]) == (
        1,
        "5 lines: 1 imported, 0 known before, 4 wrong; ",
    )
    assert errors.splitlines()[0] == "lines 3 to 4: its id is that of an earlier line"
    assert errors.splitlines()[1].startswith("lines 5 to 6: id is neither")


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
async def test_standard_input_is_a_file(
    connection: asyncpg.Connection, dsn: str, file: str
) -> None:
    lines = "".join(f"{n},{n:064x},,2024-01-05 10:11:12\n" for n in range(12_345))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flusher", "import", file, "--site=city.example.org"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(gzip.compress((HEAD + lines).encode()))
    assert (process.returncode, errors) == (0, b"")
    assert output.startswith(b"12,345 lines: 12,345 imported")
    assert output.endswith(b"import --undo stdin\n")
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 12_345


def waits_for_input(process: int) -> bool:
    kernels_functions = [file.read_text() for file in Path(f"/proc/{process}/task").glob("*/wchan")]
    return any("pipe_read" in name or "unix_stream" in name for name in kernels_functions)


async def test_ctrl_c_ends_an_import_that_waits_for_standard_input(dsn: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flusher", "import", "-", "--site=city.example.org"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write((HEAD + GOOD).encode())
    await process.stdin.drain()

    async def reads() -> bool:
        """A thread of it waits for standard input."""
        return await asyncio.to_thread(waits_for_input, process.pid)

    await eventually(reads)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        assert await process.wait() == 1
    errors = await process.stderr.read() if process.stderr else b""
    assert errors.startswith(b"error: interrupted")
    assert errors.count(b"\n") == 1


async def test_a_name_that_a_site_may_have_is_one_of_an_import_too(
    connection: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """The collector counts them, and `SITES` accepts them."""
    sites = ("my_city.example.org", "köln.example.org", "City.example.org.", "[2001:db8::1]")
    lines = "".join(f"{n},{ANNA},,2024-01-05,{site}\n" for n, site in enumerate(sites))
    code, _, errors = await import_text(dsn, tmp_path, HEAD.replace("\n", ",site\n") + lines)
    assert (code, errors) == (0, "")
    wanted = ["[2001:db8::1]", "city.example.org", "my_city.example.org", "xn--kln-sna.example.org"]
    found = await connection.fetch("SELECT DISTINCT site FROM sessions")
    assert sorted(row["site"] for row in found) == wanted
    file = tmp_path / "one.csv"
    file.write_text(HEAD + GOOD)
    for setting in ("my_city.example.org", "köln.example.org"):
        code, _, errors = await run_import(dsn, file, SITES=setting)
        assert (code, errors) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("given.csv", "--undo", "given.csv"),
        ("--undo", "given.csv", "--site", "a.example.org"),
        ("given.csv", "--separator", "ab"),
        ("given.csv", "--name", ""),
    ],
)
async def test_wrong_arguments_are_told(dsn: str, arguments: tuple[str, ...]) -> None:
    code, output, errors = await run_import(dsn, *arguments)
    assert (code, output) == (2, "")
    assert "usage: python -m flusher import" in errors


def batch_of(run: bytes, *lines: str) -> LineBatch:
    rules = Importable("a.example.org", ZoneInfo("UTC"), Month(2024, 12), frozenset(), frozenset())
    layout = read_layout(HEAD.rstrip("\n"))
    (batch,) = line_batches(lines, layout, EarlierSessions(rules, run))
    return batch


async def test_what_is_there_is_found_in_months_that_were_empty_when_the_import_began(
    connection: asyncpg.Connection, dsn: str
) -> None:
    """Where COPY finds the repeats within the file, but for those on the other side of a month's
    end, and nothing is known before, until another import stores something there.
    """
    first = [f"{n},{ANNA},,2024-01-31 12:00" for n in range(6)]
    moved = [f"{n},{ANNA},,2024-02-01 12:00" for n in range(6)]
    one, two = b"import", b"second"

    async def write(run: bytes, *lines: str) -> tuple[list[int], list[int], int]:
        outcome = await writers[run].write(batch_of(run, *lines))
        return list(outcome.new), list(outcome.repeats), outcome.known

    async with Database(dsn) as database:
        writers = {
            run: ImportWriter(database, ZoneInfo("UTC"), Run(run, "some")) for run in (one, two)
        }
        assert await write(one, *first[:2]) == ([0, 1], [], 0)
        assert await write(one, *first[1:3]) == ([1], [0], 0), "of an earlier batch"
        assert await write(one, *moved[2:4]) == ([1], [0], 0), "in the month before"
        assert await write(one, first[3]) == ([], [0], 0), "in the month that follows"
        assert await write(two, first[0], moved[1], first[4]) == ([2], [], 2)
        assert await write(one, *first[4:]) == ([1], [], 1), "the other import has stored it since"
        assert await write(one, *first, *moved) == ([], [0, 1, 2, 3, 5, 6, 7, 8, 9, 11], 2)
    assert await connection.fetchval("SELECT count(*) FROM sessions") == 6
    assert await views_and_live_counts_that_differ(connection) == []


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
    """And its lines are new: not known before, nor repeats of each other."""
    lines = [f"{n},{ANNA},,2024-01-05" for n in (1, 2, 3, 2)]
    async with ForgetfulDatabase(dsn) as database:
        writer = ImportWriter(database, ZoneInfo("UTC"), Run(b"import", "some"))
        outcome = await writer.write(batch_of(b"import", *lines))
        assert not database.forgets
        assert (len(outcome.new), outcome.known, outcome.repeats) == (3, 0, [3])
        outcome = await writer.write(batch_of(b"import", *lines[:1]))
        assert (len(outcome.new), outcome.known, outcome.repeats) == (0, 0, [0])
    assert await connection.fetchval("SELECT sum(sessions) FROM flusher.imports") == 3
    assert await views_and_live_counts_that_differ(connection) == []
