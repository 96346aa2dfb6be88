"""`python -m flusher report` and the view `data_quality`: figures that say what they are."""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime, timedelta
from io import StringIO

import asyncpg
import pytest

from contract.calendar import DAY_US, Month, month_at
from flusher.commands import REPORT_FORMATS
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.reports.formats import as_csv, as_table
from flusher.reports.html import as_html
from flusher.reports.read import read_report
from flusher.reports.report_lines import Change, Counts, Line, Report
from flusher.stream.dead_letters import UNKNOWN_SITE
from runtime.clock import wall_clock
from tests.counted import count_sign_ins
from tests.events import SITE, batch_of, start, upgrade
from tests.instant import MONTH, NOON_US, UTC
from tests.integration.keeping import keeper_of
from tests.system import fail_in_one_line, run_command


async def fill(database: Database, now_us: int) -> None:
    """Two months ago 2 sessions by 1 person; a month ago 3 by 2, 1 of them signed in; now 1."""
    current = month_at(now_us, UTC)
    numbers = {current.plus(-2): (1, 1), current.plus(-1): (1, 1, 2)}
    events = [
        start(
            visitor=bytes([person]) * 16,
            role="user" if person == 2 else None,
            month=month,
            seconds=(month.starts_us(UTC) + DAY_US // 4 + place - NOON_US) / 1e6,
        )
        for month, people in numbers.items()
        for place, person in enumerate(people)
    ]
    events.append(start(visitor=b"\3" * 16, month=current, seconds=(now_us - NOON_US) / 1e6))
    await SessionWriter(database, UTC).write(batch_of(*events))


async def count(
    connection: asyncpg.Connection,
    first: date,
    last: date,
    *,
    site: str = SITE,
    a_day: int = 20,
    people: int = 100,
    but: Collection[date] = (),
) -> None:
    """`a_day` sessions of a site on each day from `first` to `last`, but for those of `but`, a
    quarter of them signed in; and each month `people`, a fifth of them users.
    """
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    days = [day for day in days if day not in but]
    signed_in = a_day // 4
    rows = [
        (False, site, day.replace(day=1), day, a_day - signed_in, signed_in, 0, 0, 0)
        for day in days
    ]
    for month in sorted({day.replace(day=1) for day in days}):
        number = sum(day.replace(day=1) == month for day in days)
        sessions = (number * (a_day - signed_in), number * signed_in)
        rows.append((True, site, month, month, *sessions, people, people // 5, people * 4 // 5))
    # Before the counts: a month that is made later takes those that have no sessions back.
    for month in {day.replace(day=1) for day in days}:
        await connection.execute("SELECT flusher.create_month($1)", month)
    await connection.executemany(
        "INSERT INTO flusher.counts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", rows
    )


def last_day(month: Month) -> date:
    return month.plus(1).first_day - timedelta(days=1)


async def test_the_figures_are_those_of_the_table(
    connection: asyncpg.Connection, database: Database, dsn: str, this_month: Month
) -> None:
    await fill(database, wall_clock())
    change = (await read_report(database, wall_clock(), None, 12)).months[1].before
    assert change == Change(sessions=0.5, people=1.0, sites=1)
    await connection.execute(
        "INSERT INTO flusher.salts VALUES (gen_random_uuid(), $1, 'rotated', now()), "
        "(gen_random_uuid(), $1, 'replaced', now())",
        this_month.plus(-1).first_day,
    )
    report = json.loads(await run_report(dsn, "--format=json"))
    first, second, current = report["months"]
    assert [first["month"], second["month"], current["month"]] == [
        str(this_month.plus(-2)),
        str(this_month.plus(-1)),
        str(this_month),
    ]
    assert (second["sessions"], second["people"], second["signed_in_people"]) == (3, 2, 1)
    assert (second["sessions_change"], second["people_change"]) == (None, None)
    assert second["signed_in_share"] == 0.3333
    assert [first["finished"], second["finished"], current["finished"]] == [True, True, False]
    assert current["sessions_change"] is None, "an unfinished month is compared with none"
    assert first["remarks"] == []
    assert any("salt was lost or replaced" in remark for remark in second["remarks"])


async def run_report(dsn: str, *arguments: str, **environment: str) -> str:
    """The output of a report that succeeds and writes nothing else."""
    code, output, errors = await run_command(
        "flusher", "report", *arguments, DATABASE_URL=dsn, REDIS_URL="", **environment
    )
    assert (code, errors) == (0, "")
    return output


async def test_every_format_is_what_it_says_and_names_the_only_site(
    connection: asyncpg.Connection, dsn: str, this_month: Month
) -> None:
    """In ASCII where the output can show nothing else."""
    before = this_month.plus(-1)
    await count(connection, before.first_day, last_day(before), site="k\xf6ln.example.org")
    begins = {"table": "Impact of k", "csv": "month,", "json": "{", "html": "<!DOCTYPE html>"}
    for form in REPORT_FORMATS:
        output = await run_report(dsn, f"--format={form}", PYTHONIOENCODING="ascii")
        assert output.isascii()
        assert output.lstrip().startswith(begins[form])
        assert str(before) in output
        assert "ln.example.org" in output or form == "csv"
        assert "Impact of k" in output or form in ("csv", "json")


async def test_known_gaps_are_shown(
    connection: asyncpg.Connection,
    database: Database,
    dsn: str,
    this_month: Month,
    writer: SessionWriter,
) -> None:
    """In every format; where one site is asked for, only its own."""
    await fill(database, wall_clock())
    before = this_month.plus(-1)
    for kind, numbers in (("given_up", (3, 2, 0)), ("dead_letter", (5, 6, 7))):
        sites = (SITE, "b.example.org", UNKNOWN_SITE)
        await connection.executemany(
            "INSERT INTO flusher.quality_counts VALUES ($1, $2, $3, $4)",
            [
                (before.first_day, site, kind, number)
                for site, number in zip(sites, numbers, strict=True)
            ],
        )
    waits = replace(upgrade(b"x" * 16, site="b.example.org"), month=this_month, at_us=wall_clock())
    await writer.write(batch_of(waits))
    of_all = ["5 sign-ins are missing", "11 dead letters wait: ", "7 dead letters wait that can"]
    for form in REPORT_FORMATS:
        code, *texts = await run_command("flusher", "report", f"--format={form}", DATABASE_URL=dsn)
        text = "".join(texts)
        assert code == 0, text
        assert [said for said in [*of_all, "1 sign-ins still wait"] if said not in text] == [], form
    of_one = str(await read_report(database, wall_clock(), SITE, 12))
    for said in ("3 sign-ins are missing", "5 dead letters wait: ", of_all[2]):
        assert said in of_one
    assert "still wait" not in of_one
    assert (await quality(connection))[before]["comparable"], "a few don't change a month"
    theirs = await quality(connection, "b.example.org")
    assert (theirs[before]["sign_ins_given_up"], theirs[before]["comparable"]) == (2, False)
    assert theirs[this_month]["sign_ins_waiting"] == 1


async def test_a_reader_reports_with_the_database_alone_and_another_role_learns_what_it_needs(
    connection: asyncpg.Connection, database: Database, dsn: str
) -> None:
    """The zone is that of the calendar, not of the analyst."""
    await fill(database, wall_clock())
    await connection.execute("UPDATE flusher.state SET timezone = 'Europe/Vienna'")
    await connection.execute("DROP ROLE IF EXISTS analyst; CREATE ROLE analyst LOGIN")
    theirs = dsn.replace("postgres@", "analyst@")
    errors = await fail_in_one_line(2, "flusher", "report", DATABASE_URL=theirs)
    assert "GRANT impact_reader TO" in errors
    assert "migrate" not in errors
    await connection.execute("GRANT impact_reader TO analyst")
    assert "Vienna" in await run_report(theirs, "--by=site")
    await connection.execute("DROP ROLE analyst")


async def test_an_empty_database_has_nothing_counted_yet(database: Database, dsn: str) -> None:
    assert "nothing counted yet" in await run_report(dsn, "--site=a.example.org")
    empty = await read_report(database, wall_clock(), None, 12)
    assert "nothing counted yet" in as_html(empty)
    assert unclosed(as_html(empty)) == set()
    assert as_csv(empty).startswith("month,")
    assert empty.months == []


async def test_a_site_is_found_as_people_write_it_or_named_as_unknown(
    database: Database, connection: asyncpg.Connection, dsn: str, this_month: Month
) -> None:
    await fill(database, wall_clock())
    first = this_month.plus(-1).first_day
    await count(connection, first, first, site="xn--kln-sna.example.org")
    output = await run_report(dsn, "--site=K\xf6ln.example.org:443")
    assert output.startswith("Impact of xn--kln-sna.example.org\n")
    output = await run_report(dsn, "--site=City.Example.ORG.")
    assert output.startswith(f"Impact of {SITE}\n")
    errors = await fail_in_one_line(2, "flusher", "report", "--site=no", DATABASE_URL=dsn)
    assert errors == f"error: --site: there are no sessions of 'no' (for example: --site {SITE})\n"


async def test_a_last_month_in_which_no_site_was_counted_is_shown(
    connection: asyncpg.Connection, database: Database, this_month: Month
) -> None:
    """As after an import of earlier sessions."""
    earlier = this_month.plus(-2).first_day
    for site in ("a", "b"):
        await count(connection, earlier, earlier, site=site)
    report = await read_report(database, wall_clock(), None, 12)
    for text in (as_table(report), as_html(report)):
        assert f"{this_month.plus(-1)}: no sessions were counted" in text


async def test_a_month_that_is_not_whole_has_no_percentage_and_says_why(
    connection: asyncpg.Connection, database: Database, this_month: Month
) -> None:
    """Nor has the month after it; nor the same month a year later."""
    first, gap, salt = (this_month.plus(-number) for number in (15, 13, 3))
    began = first.first_day + timedelta(days=12)
    await count(connection, began, this_month.first_day, but={gap.first_day + timedelta(days=3)})
    await connection.execute(
        "INSERT INTO flusher.salts VALUES (gen_random_uuid(), $1, 'lost', $1::date + 5)",
        salt.first_day,
    )
    report = await read_report(database, wall_clock(), "city.example.org", 16)
    lines = {line.month: line for line in report.months}
    not_before = [month for month, line in lines.items() if line.before is None]
    assert not_before == [*(m.plus(n) for m in (first, gap, salt) for n in (0, 1)), this_month]
    assert lines[first].remarks == (f"counting began on {began}",)
    assert lines[gap].remarks == ("a day has no session", "therefore not compared")
    assert lines[salt].remarks[0].startswith("its salt was lost or replaced on")
    after = "not compared, because of the month before: "
    assert lines[first.plus(1)].remarks == (f"{after}counting began on {began}",)
    assert lines[gap.plus(1)].remarks == (f"{after}a day has no session",)
    assert lines[salt.plus(1)].remarks[0].startswith(f"{after}its salt")
    assert {line.before.people for line in report.months if line.before} == {0}
    in_a_year = [month for month, line in lines.items() if line.year is not None]
    assert in_a_year == [this_month.plus(-2)], "of the others one of the two is not whole"


async def test_all_sites_are_compared_like_with_like(
    connection: asyncpg.Connection, database: Database, this_month: Month
) -> None:
    """A site that joined is no growth, and one that left is no loss."""
    before, last = this_month.plus(-2), this_month.plus(-1)
    joined = last.first_day + timedelta(days=4)
    left = before.first_day + timedelta(days=20)
    await count(connection, before.first_day, last_day(before), site="a", people=100)
    await count(connection, last.first_day, last_day(last), site="a", people=150)
    await count(connection, joined, last_day(last), site="b", people=5000)
    await count(connection, before.first_day, left, site="c", people=7000)
    report = await read_report(database, this_month.starts_us(UTC), None, 12)
    line = report.months[1]
    assert (line.counts.people, line.before and line.before.people) == (5150, 0.5)
    assert "the change is that of 1 of 3 sites: those that were counted throughout both months" in (
        line.remarks
    )
    assert "counting of b began within the month" in line.remarks
    assert "counting of c ended within the month" in report.months[0].remarks


async def test_by_site_each_month_has_its_sites_and_their_shares(
    connection: asyncpg.Connection, dsn: str, this_month: Month
) -> None:
    first = this_month.plus(-14).first_day
    await count(connection, first, this_month.first_day, site="small.example.org", a_day=20)
    await count(connection, first, this_month.first_day, site="large.example.org", a_day=60)
    lines = json.loads(await run_report(dsn, "--by=site", "--format=json"))["by_site"]
    assert [(line["month"], line["site"], line["sessions_share"]) for line in lines] == [
        (str(month), site, share)
        for month in (this_month.plus(-1), this_month)
        for site, share in (("large.example.org", 0.75), ("small.example.org", 0.25))
    ]
    assert [line["people_change_in_a_year"] for line in lines] == [0.0, 0.0, None, None]
    output = await run_report(dsn, "--by=site")
    assert f"{this_month.plus(-1)} " in output
    assert "75 %" in output


async def test_people_are_not_added_up_over_months_and_their_certain_number_is_beside_them(
    connection: asyncpg.Connection, database: Database, this_month: Month
) -> None:
    """For somebody who signs in counts twice: of each site the larger of its visitors and users,
    and of all sites the sum of these.
    """
    first, last = this_month.plus(-2).first_day, last_day(this_month.plus(-1))
    for site, people in (("a", 100), ("b", 50)):
        await count(connection, first, last, site=site, a_day=1000, people=people)
    report = await read_report(database, wall_clock(), None, 12)
    assert report.sessions == 2000 * ((last - first).days + 1)
    assert (report.months[0].counts.people_at_least, report.months[0].counts.people) == (120, 150)
    for text in (as_table(report), as_html(report)):
        assert f"3 months together: {report.sessions:,} sessions." in text
        assert "300" not in text.replace(f"{report.sessions:,}", "")
        assert "between 120 and 150, since people who came" in text
    of_one_month = await read_report(database, wall_clock(), None, 1)
    for text in (as_table(of_one_month), as_html(of_one_month)):
        assert "together" not in text


async def test_what_sign_ins_show_about_visitors_is_beside_the_people_where_there_are_enough(
    connection: asyncpg.Connection, database: Database, this_month: Month
) -> None:
    """Of each site, and of all by their sums; with fewer than 20 pairs nothing is shown."""
    before = this_month.plus(-1)
    for site, pairs, users, visitors in (("a", 30, 20, 24), ("b", 30, 30, 30), ("c", 19, 10, 10)):
        await count(connection, before.first_day, last_day(before), site=site)
        await count_sign_ins(connection, before.first_day, site, pairs, users, visitors)
    of_a, of_all, of_c = [
        await read_report(database, wall_clock(), site, 12) for site in ("a", None, "c")
    ]
    for report, said in (
        (of_a, "came as 1.50 visitors or more, and such a visitor was 1.25 users (from 30 pairs"),
        (of_all, "came as 1.20 visitors or more, and such a visitor was 1.11 users (from 60 pairs"),
    ):
        for text in (as_table(report), as_html(report)):
            assert said in " ".join(text.split())
    for text in (as_table(of_c), as_html(of_c)):
        assert "such a visitor" not in text
    rows = csv.DictReader(StringIO(as_csv(of_all, by_site=True)))
    assert {
        (row["site"], row["visitors_per_user"], row["users_per_visitor"])
        for row in rows
        if row["month"] == str(before)
    } == {("a", "1.5", "1.25"), ("b", "1.0", "1.0"), ("c", "", "")}


def example(site: str | None = "city.example.org") -> Report:
    months = [
        Line(Month(2026, 9), None, Counts(1200, 800, 650, 300, 200)),
        Line(
            *(Month(2026, 10), None, Counts(1500, 900, 700, 450, 250)),
            before=Change(0.25, 0.125, 1),
            remarks=("a <remark>",),
        ),
        Line(Month(2026, 11), None, Counts(700, 500, 420, 100, 90), unfinished=True),
    ]
    made_at = datetime(2026, 11, 9, 12, tzinfo=UTC)
    return Report(site, 1, "UTC", made_at, months, [], ["another"])


def test_the_table_marks_months_that_are_unfinished_or_have_a_remark() -> None:
    lines = [line.split() for line in as_table(example()).splitlines()]
    rows = {line[0]: line for line in lines if line}
    assert rows["2026-10"][1] == "!"
    assert rows["2026-11"][1] == "*"
    assert "+25" in rows["2026-10"]
    assert "* unfinished: up to 2026-11-09 12:00 (UTC)" in as_table(example())
    assert "! 2026-10: a <remark>" in as_table(example())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_is_told_which_are_missing(width: int) -> None:
    text = as_table(example(), width=width)
    assert max(map(len, text.splitlines())) <= max(width, len("Impact of city.example.org"))
    assert text.isascii()
    assert "900" in text
    assert ("no room)" in " ".join(text.split())) == (width < 80)


def test_the_csv_is_one_line_a_month_with_its_own_remarks() -> None:
    rows = list(csv.DictReader(StringIO(as_csv(example()))))
    assert [row["people"] for row in rows] == ["800", "900", "500"]
    assert [row["people_change"] for row in rows] == ["", "0.125", ""]
    assert [row["remarks"] for row in rows] == ["", "a <remark>", ""]
    assert [row["visitors"] for row in rows] == ["650", "700", "420"]
    assert [row["sessions_per_person"] for row in rows] == ["1.5", "1.6667", "1.4"]


def unclosed(page: str) -> set[str]:
    """The elements that are opened more often than closed."""
    opened, closed = (Counter(re.findall(tag, page)) for tag in (r"<(\w+)", r"</(\w+)"))
    return {*(opened - closed)} - {"meta", "rect", "line"}


@pytest.mark.parametrize("site", [None, "<script>alert(1)</script>"])
def test_the_page_is_whole_loads_nothing_and_runs_nothing(site: str | None) -> None:
    page = as_html(example(site))
    assert unclosed(page) == set()
    assert not re.search(r"(?i)<script|<link|\b(?:src|href|on\w+)=|url\(|@import", page)
    assert page.count("<rect") == 12
    assert page.count("<table") == page.count("<svg") == 2


FIRST, BEFORE = MONTH.plus(-3), MONTH.plus(-1)


async def quality(connection: asyncpg.Connection, site: str = SITE) -> dict[Month, asyncpg.Record]:
    rows = await connection.fetch("SELECT * FROM data_quality WHERE site = $1", site)
    return {Month(row["month"].year, row["month"].month): row for row in rows}


async def test_a_month_that_is_not_whole_says_why_and_may_not_be_compared(
    connection: asyncpg.Connection,
) -> None:
    """A day without sessions is a gap where days have many; a month without any is the largest gap,
    also where no site has one. Of the days before a site began there is nothing to say.
    """
    middle = FIRST.plus(1)
    began, ended = (month.first_day + timedelta(days=12) for month in (FIRST, middle))
    gap = {middle.first_day + timedelta(days=n) for n in (9, 10)}
    all_days = (BEFORE.first_day - middle.first_day).days
    await count(connection, FIRST.first_day, last_day(FIRST), site="paused")
    await count(connection, BEFORE.first_day, MONTH.first_day, site="paused")
    found = await quality(connection, "paused")
    assert found[middle]["days_without_sessions"] == all_days
    to_now = FIRST.first_day, MONTH.first_day
    await count(connection, *to_now)
    await count(connection, began, MONTH.first_day, site="begins")
    await count(connection, FIRST.first_day, ended, site="ends")
    await count(connection, *to_now, site="gap", but=gap)
    await count(connection, *to_now, site="small", a_day=4, but=gap)
    whole = (True, None, None, 0)
    columns = ("comparable", "began_on", "ended_on", "days_without_sessions")
    for site, expected in {
        SITE: [whole] * 3,
        "begins": [(False, began, None, 0), whole, whole],
        "ends": [whole, (False, None, ended, 0)],
        "gap": [whole, (False, None, None, 2), whole],
        "small": [whole, (True, None, None, 2), whole],
        "paused": [whole, (False, None, None, all_days), whole],
    }.items():
        months = sorted((await quality(connection, site)).items())
        rows = [tuple(map(row.get, columns)) for month, row in months if month < MONTH]
        assert rows == expected, site
    await connection.execute(
        "UPDATE flusher.months SET closed_at = now() WHERE month = $1", FIRST.first_day
    )
    found = await quality(connection)
    assert [found[month]["closed"] for month in (FIRST, BEFORE)] == [True, False]
    assert found[BEFORE]["timezone"] == "UTC"
    assert not found[MONTH]["comparable"], "it is not over"


async def test_a_replaced_salt_is_dated_by_the_calendars_days(
    connection: asyncpg.Connection,
) -> None:
    """At 23:30 in UTC it is the next day in Kiritimati."""
    await connection.execute("UPDATE flusher.state SET timezone = 'Pacific/Kiritimati'")
    await count(connection, FIRST.first_day, MONTH.first_day)
    for outcome, half_hours in (("rotated", 1), ("lost", 200), ("replaced", 9 * 48 + 47)):
        await connection.execute(
            "INSERT INTO flusher.salts VALUES (gen_random_uuid(), $1, $2, "
            "$1::date::timestamp AT TIME ZONE 'UTC' + $3 * interval '30 minutes')",
            *(FIRST.plus(1).first_day, outcome, half_hours),
        )
    found = (await quality(connection))[FIRST.plus(1)]
    assert found["salts_replaced"] == 2
    assert found["salt_replaced_on"] == FIRST.plus(1).first_day + timedelta(days=10)
    assert not found["comparable"]


async def test_dead_letters_are_written_down_for_who_can_not_ask_redis(
    connection: asyncpg.Connection, database: Database
) -> None:
    dead = {(BEFORE, SITE): 2, (BEFORE, UNKNOWN_SITE): 1, (BEFORE.plus(-1), SITE): 0}
    await count(connection, FIRST.first_day, MONTH.first_day)

    async def places() -> dict[tuple[Month, str], int]:
        return dead

    keeper = keeper_of(database, dead_places=places)
    for _ in range(2):
        await keeper.run_once()
        found = await quality(connection)
        assert (found[BEFORE]["dead_letters"], found[BEFORE.plus(-1)]["dead_letters"]) == (2, 0)
        assert (await quality(connection, UNKNOWN_SITE))[BEFORE]["dead_letters"] == 1
    dead.clear()
    await keeper.run_once()
    assert (await quality(connection))[BEFORE]["dead_letters"] == 0
    assert await quality(connection, UNKNOWN_SITE) == {}
