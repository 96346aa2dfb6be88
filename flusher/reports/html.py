"""A report as one HTML file, its plot an SVG: nothing is loaded, and nothing runs. Pure."""

from html import escape
from importlib.resources import files
from string import Template

from flusher.reports.formats import NONE, percent, title
from flusher.reports.report import MonthlyImpact, Report

_PAGE = Template(files("flusher.reports").joinpath("report.html").read_text())
# The plot's own units; the page scales it.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960.0, 340.0, 64.0, 36.0, 12.0
_STEPS = (1, 2, 2.5, 5, 10)
_LABELS_AT_MOST = 12


def as_html(report: Report) -> str:
    """A page of its own: the plot, the table, and the remarks."""
    notes = [f"{month.month}: {remark}" for month in report.months for remark in month.remarks]
    return _PAGE.substitute(
        title=escape(title(report)),
        until=escape(f"{report.made_at:%Y-%m-%d %H:%M}"),
        zone=escape(report.zone),
        figures=_figures(report.months),
        plot=_plot(report.months),
        rows="\n".join(_row(month) for month in reversed(report.months)),
        remarks="\n".join(f"<li>{escape(note)}</li>" for note in [*notes, *report.remarks]),
    )


def _figures(months: list[MonthlyImpact]) -> str:
    """The last finished month in large type."""
    finished = [month for month in months if not month.unfinished]
    if not finished:
        return ""
    last = finished[-1]
    figures = (
        ("people in", f"{last.people:,}", percent(last.people_change, signed=True)),
        ("sessions in", f"{last.sessions:,}", percent(last.sessions_change, signed=True)),
        ("of sessions were signed in,", percent(last.signed_in_share), ""),
    )
    return "\n".join(
        f"<div><b>{value}</b><span>{name} {last.month}</span>"
        + (f"<i>{change} on the month before</i>" if change not in ("", NONE) else "<i></i>")
        + "</div>"
        for name, value, change in figures
    )


def _row(month: MonthlyImpact) -> str:
    mark = " <small>unfinished</small>" if month.unfinished else " !" if month.remarks else ""
    cells = (
        f"{month.sessions:,}",
        percent(month.sessions_change, signed=True),
        f"{month.people:,}",
        percent(month.people_change, signed=True),
        percent(month.signed_in_share),
    )
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{month.month}{mark}</th>{numbers}</tr>'


def _plot(months: list[MonthlyImpact]) -> str:
    highest = max((month.sessions for month in months), default=0)
    step = _step(highest)
    top = max(step, -(-highest // step) * step)
    height = _HEIGHT - _BOTTOM - _TOP
    parts = []
    for value in range(0, top + 1, step):
        y = _HEIGHT - _BOTTOM - height * value / top
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="value" x="{_LEFT - 8}" y="{y + 4:.1f}">{value:,}</text>')
    slot = (_WIDTH - _LEFT) / max(len(months), 1)
    every = -(-len(months) // _LABELS_AT_MOST)
    for number, month in enumerate(months):
        kind = " unfinished" if month.unfinished else ""
        for offset, name, value in (
            (0.16, "sessions", month.sessions),
            (0.5, "people", month.people),
        ):
            tall = height * value / top
            x, y = _LEFT + slot * (number + offset), _HEIGHT - _BOTTOM - tall
            parts.append(
                f'<rect class="{name}{kind}" x="{x:.1f}" y="{y:.1f}" width="{slot * 0.32:.1f}" '
                f'height="{tall:.1f}"><title>{month.month}: {value:,} {name}</title></rect>'
            )
        if (len(months) - 1 - number) % every == 0:
            x = _LEFT + slot * (number + 0.5)
            parts.append(f'<text class="month" x="{x:.1f}" y="{_HEIGHT - 12}">{month.month}</text>')
    return "\n".join(parts)


def _step(highest: int) -> int:
    """The round distance of some five grid lines."""
    magnitude = 1
    while magnitude * 50 < highest:
        magnitude *= 10
    return (
        int(next((s * magnitude for s in _STEPS if s * magnitude * 5 >= highest), 10 * magnitude))
        or 1
    )
