"""`python -m flusher report`: figures that say what they are."""

import asyncio
import csv
import json
import os
import sys
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from io import StringIO
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from contract import keys
from contract.calendar import DAY_US, Month, month_at
from contract.record import SessionUpgraded
from flusher.commands import REPORT_FORMATS
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.reports.formats import as_csv, as_table
from flusher.reports.html import as_html
from flusher.reports.report import MonthlyImpact, Report, read_report
from runtime.clock import wall_clock
from tests.events import batch_of, start, upgrade
from tests.instant import NOON_US
from tests.system import ROOT, find_free_port, run_command

UTC = ZoneInfo("UTC")


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


async def test_the_figures_are_those_of_the_table(
    database: Database, dsn: str, this_month: Month
) -> None:
    await fill(database, wall_clock())
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO flusher.salts VALUES (gen_random_uuid(), $1, 'rotated', now()), "
        "(gen_random_uuid(), $1, 'replaced', now())",
        this_month.plus(-1).first_day,
    )
    await connection.close()
    code, output, errors = await run_command("flusher", "report", "--format=json", DATABASE_URL=dsn)
    assert (code, errors) == (0, "")
    report = json.loads(output)
    first, second, current = report["months"]
    assert [first["month"], second["month"], current["month"]] == [
        str(this_month.plus(-2)),
        str(this_month.plus(-1)),
        str(this_month),
    ]
    assert (second["sessions"], second["people"], second["signed_in_people"]) == (3, 2, 1)
    assert (second["sessions_change"], second["people_change"]) == (0.5, 1.0)
    assert second["signed_in_share"] == 0.3333
    assert [first["finished"], second["finished"], current["finished"]] == [True, True, False]
    assert current["sessions_change"] is None, "an unfinished month is compared with none"
    assert first["remarks"] == []
    assert "salt was replaced" in second["remarks"][0]


async def test_every_format_is_what_it_says(
    database: Database, dsn: str, this_month: Month
) -> None:
    await fill(database, wall_clock())
    for form, begins in (("table", "Impact"), ("csv", "month,"), ("html", "<!DOCTYPE html>")):
        code, output, errors = await run_command(
            "flusher", "report", f"--format={form}", "--site=city.example.org", DATABASE_URL=dsn
        )
        assert (code, errors) == (0, "")
        assert output.lstrip().startswith(begins)
        assert str(this_month.plus(-2)) in output


async def test_known_gaps_are_shown(
    database: Database, dsn: str, this_month: Month, redis: Redis
) -> None:
    """Sign-ins that were given up, and dead letters that wait, in every format."""
    await fill(database, wall_clock())
    writer = SessionWriter(database, UTC)
    before = this_month.plus(-1)

    def sign_in(session: bytes, site: str = "city.example.org") -> SessionUpgraded:
        at_us = before.starts_us(UTC) + DAY_US
        return replace(upgrade(session, site=site), month=before, at_us=at_us)

    for site in ("city.example.org", "b.example.org"):
        await writer.write(batch_of(sign_in(b"x" * 16, site), sign_in(b"y" * 16, site)))
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE flusher.upgrades SET stored_at = now() - interval '3 days'"
        )
    assert await writer.purge() == 4
    assert await writer.purge() == 0
    await writer.write(batch_of(sign_in(b"z" * 16)))
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE flusher.upgrades SET stored_at = now() - interval '3 days'"
        )
    assert await writer.purge() == 1
    for shard in (1, 3):
        await redis.xadd(keys.dead_letters(shard), {"reason": "unknown"})
    url = f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}"
    for form in REPORT_FORMATS:
        code, output, errors = await run_command(
            "flusher", "report", f"--format={form}", DATABASE_URL=dsn, REDIS_URL=url
        )
        assert (code, errors) == (0, ""), errors
        assert "5 sign-ins are missing" in output, form
        assert "2 dead letters wait" in output, form
    code, output, _ = await run_command(
        "flusher", "report", "--site=city.example.org", DATABASE_URL=dsn, REDIS_URL=""
    )
    assert "3 sign-ins are missing" in output
    assert "dead letters" not in output, "nobody said where they would be"


async def test_a_redis_that_is_away_is_no_reason_not_to_report(
    database: Database, dsn: str
) -> None:
    await fill(database, wall_clock())
    code, output, errors = await run_command(
        "flusher", "report", DATABASE_URL=dsn, REDIS_URL=f"redis://127.0.0.1:{find_free_port()}"
    )
    assert (code, errors) == (0, "")
    assert "Redis did not answer" in output


async def test_a_site_that_is_not_there_is_one_clear_line(database: Database, dsn: str) -> None:
    await fill(database, wall_clock())
    code, output, errors = await run_command("flusher", "report", "--site=no", DATABASE_URL=dsn)
    assert (code, output) == (2, "")
    assert errors == (
        "error: --site: there are no sessions of 'no' (for example: --site city.example.org)\n"
    )


async def test_a_reader_that_leaves_ends_it_quietly(database: Database, dsn: str) -> None:
    await fill(database, wall_clock())
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flusher", "report"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn},
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (1, b"")


async def test_a_month_that_began_in_its_middle_is_said_and_compared_with_none(
    database: Database, this_month: Month
) -> None:
    began, after = this_month.plus(-2), this_month.plus(-1)
    middle = (began.starts_us(UTC) + 12 * DAY_US - NOON_US) / 1e6
    later = (after.starts_us(UTC) + DAY_US - NOON_US) / 1e6
    await SessionWriter(database, UTC).write(
        batch_of(start(month=began, seconds=middle), start(month=after, seconds=later))
    )
    report = await read_report(database, UTC, this_month.starts_us(UTC), None, 12)
    assert [month.month for month in report.months] == [began, after, this_month]
    assert "counting began on" in report.months[0].remarks[0]
    assert report.months[1].sessions_change is None


def example(site: str | None = "city.example.org") -> Report:
    months = [
        MonthlyImpact(Month(2026, 9), 1200, 800, 300, 200),
        MonthlyImpact(Month(2026, 10), 1500, 900, 450, 250, False, 0.25, 0.125, ("a <remark>",)),
        MonthlyImpact(Month(2026, 11), 700, 500, 100, 90, unfinished=True),
    ]
    made_at = datetime(2026, 11, 9, 12, tzinfo=UTC)
    return Report(site, 1, "UTC", made_at, months, ["another"])


def test_the_table_marks_what_is_unfinished_and_what_is_amiss() -> None:
    lines = [line.split() for line in as_table(example()).splitlines()]
    rows = {line[1]: line for line in lines if len(line) > 8}
    assert rows["2026-10"][2] == "!"
    assert rows["2026-11"][2] == "*"
    assert "+25" in rows["2026-10"]
    assert "* unfinished: up to 2026-11-09 12:00 (UTC)" in as_table(example())
    assert "! 2026-10: a <remark>" in as_table(example())


def test_the_csv_is_one_line_a_month() -> None:
    rows = list(csv.DictReader(StringIO(as_csv(example()))))
    assert [row["people"] for row in rows] == ["800", "900", "500"]
    assert [row["people_change"] for row in rows] == ["", "0.125", ""]


class _Page(HTMLParser):
    """Which elements there are, which are left open, and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("site", [None, "<script>alert(1)</script>"])
def test_the_page_is_whole_loads_nothing_and_runs_nothing(site: str | None) -> None:
    page = _Page(as_html(example(site)))
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.seen
    assert page.seen.count("rect") == 6
    assert {"title", "desc", "table", "svg"} <= set(page.seen)


def test_the_page_of_nothing_is_a_page() -> None:
    empty = Report(None, 0, "UTC", example().made_at, [MonthlyImpact(Month(2026, 11), 0, 0, 0, 0)])
    assert _Page(as_html(empty)).open == []
