"""A report as a table for people, as CSV, and as JSON. Pure."""

import csv
import json
import textwrap
from collections.abc import Callable, Sequence
from io import StringIO
from itertools import groupby
from typing import Any, Final, NamedTuple

from contract.calendar import Month
from flusher.reports.report_lines import Change, Counts, Line, Report

# In place of a value that does not exist.
NONE: Final = "-"
NOTHING: Final = "nothing counted yet"
REPORT_WIDTH: Final = 100
_APART: Final = "  "


class Column(NamedTuple):
    """A column of a table for people."""

    heading: str
    cell: Callable[[Line], str]
    priority: int
    """Columns with the lowest priority are left out if there is not enough width."""


def number(value: int) -> str:
    return f"{value:,}"


def percent(ratio: float | None, *, signed: bool = False) -> str:
    if ratio is None:
        return NONE
    whole = round(ratio * 100)
    return f"{whole:+d} %" if signed and whole else f"{whole} %"


def people_change(change: Change | None) -> str:
    return percent(change.people if change else None, signed=True)


def sessions_change(change: Change | None) -> str:
    return percent(change.sessions if change else None, signed=True)


def each(line: Line) -> str:
    """Sessions for each person."""
    return NONE if line.sessions_per_person is None else f"{line.sessions_per_person:.1f}"


PEOPLE: Final = Column("people", lambda line: number(line.counts.people), 11)
SESSIONS: Final = Column("sessions", lambda line: number(line.counts.sessions), 10)
PEOPLE_CHANGE: Final = Column("change", lambda line: people_change(line.before), 9)
SHARE: Final = Column("share", lambda line: percent(line.share), 8)
SESSIONS_CHANGE: Final = Column("change", lambda line: sessions_change(line.before), 7)
USERS: Final = Column("users", lambda line: number(line.counts.signed_in_people), 6)
VISITORS: Final = Column("visitors", lambda line: number(line.counts.visitors), 5)
PEOPLE_IN_A_YEAR: Final = Column("in a year", lambda line: people_change(line.year), 4)
SIGNED_IN: Final = Column("signed in", lambda line: percent(line.signed_in_share), 3)
SESSIONS_IN_A_YEAR: Final = Column("in a year", lambda line: sessions_change(line.year), 2)
EACH: Final = Column("each", each, 1)

# A column of changes belongs to the column of numbers before it.
_OF_MONTHS: Final = (
    *(PEOPLE, PEOPLE_CHANGE, VISITORS, USERS),
    *(SESSIONS, SESSIONS_CHANGE, EACH, SIGNED_IN),
)
OF_SITES: Final = (
    *(PEOPLE, PEOPLE_CHANGE, PEOPLE_IN_A_YEAR),
    *(SESSIONS, SHARE, SESSIONS_CHANGE, SESSIONS_IN_A_YEAR),
)


def title(report: Report) -> str:
    if report.site is not None:
        return f"Impact of {report.site}"
    return f"Impact of {report.sites} sites" if report.sites else "Impact"


def between(line: Line) -> str:
    """The limits between which a month's number of people is, given double counting by sign-ins."""
    least, most = number(line.counts.people_at_least), number(line.counts.people)
    return f"between {least} and {most}, since people who came both signed in and not count twice"


def of_sign_ins(line: Line) -> str | None:
    """How far visitors are from people, measured by a month's sign-ins."""
    if line.sign_ins is None:
        return None
    each_user = f"{line.sign_ins.visitors_per_user:.2f}"
    each_visitor = f"{line.sign_ins.users_per_visitor:.2f}"
    return (
        f"a user who signed in came as {each_user} visitors or more, and such a visitor was "
        f"{each_visitor} users (from {number(line.sign_ins.pairs)} pairs of both)"
    )


def last_finished(report: Report) -> Line | None:
    return next((line for line in reversed(report.months) if not line.unfinished), None)


def notes(report: Report) -> list[str]:
    of_months = [f"{line.month}: {said}" for line in report.months for said in line.remarks]
    return [*of_months, *report.remarks]


def as_csv(report: Report, *, by_site: bool = False) -> str:
    """One line for each month, or each month and site. Ratios are numbers; a missing value is an
    empty field. The remarks on the whole report are left out.
    """
    text = StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for line in report.by_site if by_site else report.months:
        writer.writerow(_fields(line) | {"remarks": "; ".join(line.remarks)})
    return text.getvalue().rstrip("\n")


def as_json(report: Report, *, by_site: bool = False) -> str:
    lines = {"by_site": report.by_site} if by_site else {"months": report.months}
    return json.dumps(
        {
            "site": report.site,
            "sites": report.sites,
            "timezone": report.zone,
            "made_at": report.made_at.isoformat(timespec="seconds"),
            "sessions": report.sessions,
            **{name: [_fields(line) for line in these] for name, these in lines.items()},
            "remarks": report.remarks,
        },
        indent=2,
    )


def as_table(report: Report, *, by_site: bool = False, width: int = REPORT_WIDTH) -> str:
    """For people, in ASCII. Columns that do not fit into `width` are left out and named."""
    if not report.months:
        return f"{title(report)}: {NOTHING}"
    remarks = [f"* unfinished: up to {report.made_at:%Y-%m-%d %H:%M} ({report.zone})"]
    if len(report.months) > 1:
        together = f"{len(report.months)} months together: {report.sessions:,} sessions."
        remarks.append(f"{together} People can't be added up.")
    last = last_finished(report)
    if last:
        remarks.append(f"People in {last.month}: {between(last)}.")
        signed_in = of_sign_ins(last)
        if signed_in:
            remarks.append(f"Visitors in {last.month}: {signed_in}.")
    if by_site:
        tables = [
            _table(str(month), list(lines), OF_SITES, lambda line: line.site or "", width)
            for month, lines in groupby(report.by_site, key=lambda line: line.month)
        ]
        marked = [
            f"! {line.month}, {line.site}: {said}"
            for line in report.by_site
            for said in line.remarks
        ]
    else:
        tables = [_table("month", report.months, _OF_MONTHS, _marked_month, width)]
        marked = [f"! {line.month}: {said}" for line in report.months for said in line.remarks]
    text = [title(report), "", *"\n\n".join(tables).splitlines(), ""]
    for remark in [*remarks, *marked, *report.remarks]:
        text += textwrap.wrap(remark, min(width, REPORT_WIDTH), subsequent_indent="  ")
    return "\n".join(text)


def _marked_month(line: Line) -> str:
    mark = " *" if line.unfinished else " !" if line.remarks else ""
    return f"{line.month}{mark}"


def _table(
    heading: str,
    lines: Sequence[Line],
    columns: Sequence[Column],
    name: Callable[[Line], str],
    width: int,
) -> str:
    kept = list(columns)
    while True:
        rows = [
            [heading, *(column.heading for column in kept)],
            *([name(line), *(column.cell(line) for column in kept)] for line in lines),
        ]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        if sum(widths) + len(_APART) * len(kept) <= width or len(kept) == 1:
            break
        kept.remove(min(kept, key=lambda column: column.priority))
    rows.insert(1, ["-" * each_width for each_width in widths])
    text = [
        _APART.join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
    gone = [column.heading for column in columns if column not in kept]
    if gone:
        text += textwrap.wrap(f"({', '.join(gone)}: no room)", width)
    return "\n".join(text)


def _fields(line: Line) -> dict[str, Any]:
    before, year, sign_ins = line.before, line.year, line.sign_ins
    values = {
        "month": str(line.month),
        "site": line.site,
        "finished": not line.unfinished,
        "sessions": line.counts.sessions,
        "sessions_change": before and before.sessions,
        "sessions_change_in_a_year": year and year.sessions,
        "sessions_share": line.share,
        "sessions_per_person": line.sessions_per_person,
        "people": line.counts.people,
        "people_at_least": line.counts.people_at_least,
        "people_change": before and before.people,
        "people_change_in_a_year": year and year.people,
        "sites_compared": before and before.sites,
        "visitors": line.counts.visitors,
        "visitors_per_user": sign_ins and sign_ins.visitors_per_user,
        "users_per_visitor": sign_ins and sign_ins.users_per_visitor,
        "signed_in_sessions": line.counts.signed_in_sessions,
        "signed_in_people": line.counts.signed_in_people,
        "signed_in_share": line.signed_in_share,
        "remarks": list(line.remarks),
    }
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }


_FIELDS: Final = tuple(_fields(Line(Month(1970, 1), None, Counts())))
