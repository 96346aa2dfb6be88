"""Every line of a file is imported, known before, or told as wrong by its own number; whatever the
file is damaged by. Held against a model that reads it in another way.
"""

import bz2
import gzip
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.calendar import Month
from flusher.imports.csv_line import read_layout
from flusher.imports.earlier_sessions import EarlierSessions, Importable
from flusher.imports.file_lines import FileLines
from flusher.imports.line_batches import WrongLines, line_batches
from flusher.imports.store import DryRun, ImportWriter, Run
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database

UTC: Final = ZoneInfo("UTC")
HEAD: Final = "id,monthly_user_hash,highest_role,created_at\n"
LATEST: Final = Month(2024, 12)
ROLES: Final = frozenset(("user", "admin"))

IDS = st.one_of(st.integers(1, 40).map(str), st.sampled_from(["", "1.2E+15", "x", "007", "\\N"]))
HASHES = st.one_of(st.integers(0, 5).map("{:064x}".format), st.sampled_from(["", "zz", "0" * 63]))
ROLE_TEXTS = st.sampled_from(["", "", "user", "admin", "NULL", "\\N", "owner", "é"])
TIMES = st.sampled_from(
    ["2024-01-05", "2024-02-29 10:11", "2024-01-31T23:59:59Z", "2025-01-01", "0001-01-01", "?", ""]
)
FIELDS = st.tuples(IDS, HASHES, ROLE_TEXTS, TIMES).map(list)
LINES = st.one_of(
    FIELDS.map(",".join),
    FIELDS.map(lambda fields: ",".join(f'"{field}"' for field in fields)),
    st.text(st.sampled_from('",;\t a1\0\x0b\x85\u2028é'), max_size=12),
    st.builds(lambda fields, more: ",".join([*fields, more]), FIELDS, st.text(max_size=3)),
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
PACKED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
}
RUNS = itertools.count()


class Told(NamedTuple):
    new: int
    known: int
    wrong: list[int]


def numbers_told(told: list[str]) -> list[int]:
    """The lines that are named: `line 3: …`, `lines 3 to 5: …`."""
    numbers: list[int] = []
    for line in told:
        found = re.match(r"lines? (\d+)(?: to (\d+))?: ", line)
        assert found is not None, line
        numbers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return numbers


async def imported(dsn: str, file: Path, tag: bytes, *, dry: bool = False) -> Told:
    run = Run(tag, "some")
    lines = FileLines(str(file)).lines()
    layout = read_layout(next(lines))
    rules = Importable("a.example.org", UTC, LATEST, frozenset(), ROLES)
    told: list[str] = []
    wrong = WrongLines(told.append)
    new = known = 0
    async with Database(dsn) as database:
        destination = DryRun(database, run) if dry else ImportWriter(database, UTC, run)
        for batch in line_batches(lines, layout, EarlierSessions(rules, tag)):
            outcome = await destination.write(batch)
            new += len(outcome.new)
            known += outcome.known
            repeats = [(batch.numbers[place], "a repeat") for place in outcome.repeats]
            wrong.add(sorted(batch.wrong + repeats), batch.last)
        wrong.end()
    return Told(new, known, numbers_told(told))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=st.lists(LINES, max_size=25),
    end=ENDS,
    is_ended=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=2)), max_size=3),
    packed=st.sampled_from([*PACKED]),
)
async def test_each_line_is_imported_known_or_told(
    dsn: str,
    tmp_path: Path,
    lines: list[str],
    end: str,
    is_ended: bool,  # noqa: FBT001 - hypothesis names it
    encoding: str,
    damage: list[tuple[int, bytes]],
    packed: str,
) -> None:
    # No two runs have the same, as in life, where they are drawn at random.
    tags = [next(RUNS).to_bytes(6) for _ in range(2)]
    text = HEAD.replace("\n", end) + end.join(lines) + (end if lines and is_ended else "")
    content = bytearray(text.encode(encoding))
    behind = len(HEAD.replace("\n", end).encode(encoding))
    if encoding != "utf-16":  # in which an odd byte makes other letters of all that follow
        for place, octets in damage:
            at = behind + place % (len(content) - behind + 1)
            content[at : at + 1] = octets
    file = tmp_path / "given.csv"
    file.write_bytes(PACKED[packed](bytes(content)))
    errors = "surrogatepass" if encoding == "utf-16" else "surrogateescape"
    read = bytes(content).decode("utf-8-sig" if encoding == "utf-8" else encoding, errors)
    there = re.split(r"\r\n|\r|\n", read)[1:]
    number = len(there) - (not there[-1])

    async with Database(dsn) as database, database.connection() as connection:
        before = await connection.fetchval("SELECT count(*) FROM sessions")
        dry = await imported(dsn, file, tags[0], dry=True)
        assert await connection.fetchval("SELECT count(*) FROM sessions") == before
        first = await imported(dsn, file, tags[0])
        assert dry == first
        assert first.new + first.known + len(first.wrong) == number
        assert len(set(first.wrong)) == len(first.wrong), "each once"
        assert all(2 <= each <= number + 1 for each in first.wrong)
        assert await connection.fetchval("SELECT count(*) FROM sessions") == before + first.new
        again = await imported(dsn, file, tags[1])
        assert again.new == 0
        assert again.known + len(again.wrong) == number
        assert set(again.wrong) <= set(first.wrong), "repeats are known now"
        assert await check_counts(database) == []


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_compressed_file_may_end_anywhere(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """What comes before is read, and the line where nothing more can be is told."""
    text = HEAD + "".join(f"{n},{n * 2**200:064x},,2024-01-05\n" for n in range(300))
    whole = pack(text.encode())
    file = tmp_path / "given"
    rules = Importable("a.example.org", UTC, LATEST, frozenset(), ROLES)
    for length in range(60, len(whole), 97):
        file.write_bytes(whole[:length])
        lines = FileLines(str(file)).lines()
        try:
            layout = read_layout(next(lines))
        except ValueError:
            continue
        sessions = EarlierSessions(rules, b"import")
        batches = list(line_batches(lines, layout, sessions))
        good = sum(len(batch.keys) for batch in batches)
        assert [number for batch in batches for number, _ in batch.wrong] == [good + 2]


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "given.csv"
    file.write_text(
        f"{HEAD}1,{'0' * 64},,2024-01-05\n" + "x," * 500_000 + f"\n2,{'0' * 64},,2024-01-05"
    )
    lines = FileLines(str(file)).lines()
    layout = read_layout(next(lines))
    rules = Importable("a.example.org", UTC, LATEST, frozenset(), ROLES)
    (batch,) = line_batches(lines, layout, EarlierSessions(rules, b"import"))
    assert batch.numbers == [2, 4]
    assert batch.wrong == [(3, "it is longer than 65,536 characters")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_a_line_may_stand_where_one_read_ends_and_the_next_begins(
    tmp_path: Path, encoding: str, end: str
) -> None:
    """Within a letter or the end of a line, too: each of their bytes is the last of some read."""
    file = tmp_path / "given.csv"
    lines = ["é🎈,x"] * 90_000
    for first in range(1, 18):
        lines[0] = "i" * first
        file.write_bytes(end.join(lines).encode(encoding))
        assert list(FileLines(str(file)).lines()) == lines


def test_wrong_lines_are_told_at_the_end_of_their_batch() -> None:
    """Not when the next wrong one comes; but those that go on into the next batch together."""
    told: list[str] = []
    wrong = WrongLines(told.append)
    wrong.add([(3, "a"), (4, "a"), (5, "b")], last=9)
    assert told == ["lines 3 to 4: a", "line 5: b"]
    wrong.add([(10, "a"), (19, "b")], last=19)
    assert told[2:] == ["line 10: a"]
    wrong.add([(20, "b")], last=29)
    assert told[3:] == ["lines 19 to 20: b"]
    wrong.add([(39, "b")], last=39)
    wrong.end()
    wrong.end()
    assert told[4:] == ["line 39: b"]
