"""How a file of an import is read: each line is imported, known before, or named as wrong by its
number, whatever the file is damaged by.
"""

import bz2
import gzip
import itertools
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flusher.imports.earlier_sessions import EarlierSessions, Kind
from flusher.imports.file_lines import FileLines
from flusher.imports.line_batches import WrongLines
from flusher.imports.store import DryRun, ImportWriter, Run
from flusher.postgres.check import check_counts
from flusher.postgres.database import Database
from tests.instant import UTC
from tests.integration.importing import HEAD, RULES, SITE, batch_of_lines, batches_of_file

PERSON: Final = "a1" * 32
GOOD: Final = f"1,{PERSON},,2024-01-05\n"

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
    told: list[str] = []
    wrong = WrongLines(told.append)
    new = known = 0
    async with Database(dsn) as database:
        destination = DryRun(database, run) if dry else ImportWriter(database, UTC, run)
        for batch in batches_of_file(file, tag):
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
async def test_each_line_is_imported_known_or_named_as_wrong(
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
    """What comes before is read, and the line from which nothing can be read is named."""
    text = HEAD + "".join(f"{n},{n * 2**200:064x},,2024-01-05\n" for n in range(300))
    whole = pack(text.encode())
    file = tmp_path / "given"
    for length in range(60, len(whole), 97):
        file.write_bytes(whole[:length])
        try:
            batches = list(batches_of_file(file))
        except ValueError:
            continue
        good = sum(len(batch.keys) for batch in batches)
        ends = "nothing can be read from here on: its compressed data end too early"
        assert [wrong for batch in batches for wrong in batch.wrong] == [(good + 2, ends)]


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "given.csv"
    file.write_text(f"{HEAD}{GOOD}" + "x," * 500_000 + f"\n{GOOD}")
    (batch,) = batches_of_file(file)
    assert batch.numbers == [2, 4]
    assert batch.wrong == [(3, "it is longer than 65,536 characters")]


PLAIN: Final = HEAD + f"1,{PERSON},,2024-01-05 10:11:12.123456\n2,{PERSON},user,2024-02-01 UTC\n"
FORMATS: Final = {
    "plain": PLAIN.encode(),
    "bom": PLAIN.encode("utf-8-sig"),
    "utf-16": PLAIN.encode("utf-16"),
    "utf-16-le": PLAIN.encode("utf-16-le"),
    "utf-16-be": PLAIN.encode("utf-16-be"),
    "crlf": PLAIN.replace("\n", "\r\n").encode(),
    "cr": PLAIN.replace("\n", "\r").encode(),
    "semicolon": PLAIN.replace(",", ";").encode(),
    "excel-text": PLAIN.replace(",", "\t").encode("utf-16"),
    "bar": PLAIN.replace(",", "|").encode(),
    "names": PLAIN.replace(HEAD, "ID, Monthly User Hash ,HIGHEST-ROLE,Created_At\n").encode(),
    "quoted": "".join(f'"{line}"\n' for line in PLAIN.replace(",", '","').splitlines()).encode(),
    "gz": gzip.compress(PLAIN.encode()),
    "gz-members": gzip.compress(PLAIN[:99].encode()) + gzip.compress(PLAIN[99:].encode()),
    "gz-utf-16": gzip.compress(PLAIN.encode("utf-16")),
    "bz2": bz2.compress(PLAIN.encode()),
    "xz": lzma.compress(PLAIN.encode()),
    "no-end": PLAIN.rstrip("\n").encode(),
    "given-separator": PLAIN.replace(",", "^").encode(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_as_the_same_sessions(tmp_path: Path, name: str) -> None:
    """It is recognised; only an unusual separator has to be given."""
    file = tmp_path / "given"
    file.write_bytes(FORMATS[name])
    (batch,) = batches_of_file(file, separator="^" if name == "given-separator" else None)
    expected = batch_of_lines(PLAIN.splitlines()[1:])
    assert (batch.rows, batch.numbers, batch.wrong) == (expected.rows, [2, 3], [])
    assert [kind.signed_in for kind in batch.kinds] == [False, True]


@pytest.mark.parametrize("damage", ['5,"', '5,"x"y', '"5', '5,"",'])
def test_a_quotation_mark_costs_its_own_line_and_no_other(damage: str) -> None:
    lines = [GOOD.rstrip()] * 300
    lines[149] = f"{damage}{PERSON},,2024-01-05"
    batch = batch_of_lines(lines)
    assert len(batch.numbers) == 299
    assert [number for number, _ in batch.wrong] == [151]


def session_of(
    id_: str = "1", role: str = "", at: str = "2024-01-05", site: str = ""
) -> tuple[bytes, Kind]:
    """The key and the kind of a line's session."""
    key, _, kind = EarlierSessions(RULES, b"import").session((id_, PERSON, role, at, site))
    return key, kind


@pytest.mark.parametrize(
    "marker", ["", " ", "\\N", "NULL", "null", "nil", "None", "nan", "NaN"], ids=repr
)
def test_a_marker_of_an_empty_field_is_no_role_and_no_site(marker: str) -> None:
    r"""What \copy, SQL, JSON, Ruby, Python and pandas write where there is nothing."""
    assert not session_of(role=marker)[1].signed_in
    assert session_of(site=marker)[0] == session_of(site=SITE)[0]


_NO_MONTH: Final = "is before the year 2000 or in a month that has not come"
_NO_TIME: Final = r"is not a date and time \(ISO 8601\)"
_NO_ID: Final = r"neither a whole number nor a UUID \(spreadsheets round long numbers\)"


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        *(("role", text, "none of JWT_ROLE_RANK") for text in ("#N/A", "undefined", "0")),
        *(("role", text, "none of JWT_ROLE_RANK") for text in ("(null)", "User", "moderator")),
        ("at", "0001-01-01T00:00:00+02:00", _NO_MONTH),
        ("at", "9999-12-31T23:59:59-02:00", _NO_MONTH),
        ("at", "1999-12-31T23:59:59Z", _NO_MONTH),
        *(("at", text, _NO_TIME) for text in ("05/01/2024 10:11", "", "\\N")),
        *(("id_", text, _NO_ID) for text in ("1.23457E+15", "{9f0e7a52-5b1f-4c1e-9d4c}")),
        ("id_", "9f0e_7a52-5b1f-4c1e-9d4c-0d6a3c1f2b77", _NO_ID),
        ("site", "http://a", "site is not a host name"),
    ],
)
def test_a_wrong_field_is_named(field: str, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        session_of(**{field: text})


def test_an_id_has_one_form_and_each_site_its_own_ids() -> None:
    """Databases write UUIDs in small letters, some programs in capitals or without dashes. The
    earlier system numbered sessions in each site's own database.
    """
    id_ = "9f0e7a52-5b1f-4c1e-9d4c-0d6a3c1f2b77"
    assert len({session_of(text)[0] for text in (id_, id_.upper(), id_.replace("-", ""))}) == 1
    assert session_of("7")[0] == session_of("0007")[0]
    assert len({session_of(site=f"{site}.example.org")[0] for site in "abc"}) == 3


def test_a_site_is_named_as_the_collector_names_it() -> None:
    """And as `SITES` accepts it."""
    for text, name in (
        ("my_city.example.org", "my_city.example.org"),
        ("köln.example.org", "xn--kln-sna.example.org"),
        ("City.example.org.", "city.example.org"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ):
        assert f"\0{name}\0".encode() in session_of(site=text)[1].key_prefix


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


def test_wrong_lines_are_reported_at_the_end_of_their_batch() -> None:
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
