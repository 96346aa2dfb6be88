"""A report as a table for people, as CSV, and as JSON. Pure."""

import csv
import json
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from flusher.reports.report import MonthlyImpact, Report

_NAMES = (
    "month",
    "finished",
    "sessions",
    "sessions_change",
    "people",
    "people_change",
    "signed_in_sessions",
    "signed_in_people",
    "signed_in_share",
    "remarks",
)


# Where there is nothing to tell.
NONE = "-"


def title(report: Report) -> str:
    if report.site is not None:
        return f"Impact of {report.site}"
    return f"Impact of {report.sites} sites" if report.sites != 1 else "Impact"


def percent(ratio: float | None, *, signed: bool = False) -> str:
    if ratio is None:
        return NONE
    return f"{ratio * 100:+.0f} %" if signed else f"{ratio * 100:.0f} %"


def as_csv(report: Report) -> str:
    """One line a month; ratios as numbers, an empty field where there is none.

    Remarks about all of the report are with the last month's.
    """
    text = StringIO()
    writer = csv.DictWriter(text, _NAMES, lineterminator="\n")
    writer.writeheader()
    for month in report.months:
        of_all = report.remarks if month is report.months[-1] else []
        writer.writerow(_fields(month) | {"remarks": "; ".join([*month.remarks, *of_all])})
    return text.getvalue().rstrip("\n")


def as_json(report: Report) -> str:
    return json.dumps(
        {
            "site": report.site,
            "sites": report.sites,
            "timezone": report.zone,
            "made_at": report.made_at.isoformat(timespec="seconds"),
            "months": [_fields(month) for month in report.months],
            "remarks": report.remarks,
        },
        indent=2,
    )


def as_table(report: Report) -> str:
    """For people, as wide as their terminal."""
    table = Table(title=title(report), title_justify="left")
    table.add_column("month", no_wrap=True)
    for name in ("sessions", "change", "people", "change", "signed in"):
        table.add_column(name, justify="right", no_wrap=True)
    notes = [f"{month.month}: {remark}" for month in report.months for remark in month.remarks]
    for month in report.months:
        mark = " *" if month.unfinished else " !" if month.remarks else ""
        table.add_row(
            f"{month.month}{mark}",
            f"{month.sessions:,}",
            percent(month.sessions_change, signed=True),
            f"{month.people:,}",
            percent(month.people_change, signed=True),
            percent(month.signed_in_share),
        )
    console = Console(file=StringIO(), width=100, highlight=False)
    console.print(table)
    lines = [f"* unfinished: up to {report.made_at:%Y-%m-%d %H:%M} ({report.zone})"]
    lines += [f"! {note}" for note in notes] + report.remarks
    text = console.file.getvalue() if isinstance(console.file, StringIO) else ""
    return text + "\n".join(lines)


def _fields(month: MonthlyImpact) -> dict[str, Any]:
    values = (
        str(month.month),
        not month.unfinished,
        month.sessions,
        month.sessions_change,
        month.people,
        month.people_change,
        month.signed_in_sessions,
        month.signed_in_people,
        month.signed_in_share,
        list(month.remarks),
    )
    rounded = (round(each, 4) if isinstance(each, float) else each for each in values)
    return dict(zip(_NAMES, rounded, strict=True))
