"""A report as one HTML file, which loads nothing and runs no script. Pure.

The bars of a plot are an SVG that is stretched to the page's width. Its labels are text of the
page, which keeps its size on any screen.
"""

from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final, NamedTuple

from flusher.reports import formats
from flusher.reports.formats import Column, number
from flusher.reports.report_lines import Line, Report

_PAGE: Final = Template(files("flusher.reports").joinpath("report.html").read_text())
_STEPS: Final = (1, 2, 2.5, 5, 10)
# How many months are named below a plot, on a wide and on a narrow screen.
_WIDE_LABELS, _NARROW_LABELS = 12, 4
_SITES_AT_MOST: Final = 25
# In the SVG's units: the width of a month, the height of the top grid line, and the space at each
# side of a bar.
_SLOT, _HEIGHT, _GAP = 10.0, 100.0, 1.5


class Plot(NamedTuple):
    """A plot of the months, with users below and visitors above them, and the table behind it."""

    name: str
    users: Callable[[Line], int]
    visitors: Callable[[Line], int]
    columns: Sequence[Column]


_PEOPLE: Final = Plot(
    "People",
    lambda line: line.counts.signed_in_people,
    # A hash that came both signed in and not is among the users.
    lambda line: line.counts.people - line.counts.signed_in_people,
    (
        *(formats.PEOPLE, formats.PEOPLE_CHANGE, formats.PEOPLE_IN_A_YEAR),
        *(formats.VISITORS, formats.USERS),
    ),
)
_SESSIONS: Final = Plot(
    "Sessions",
    lambda line: line.counts.signed_in_sessions,
    lambda line: line.counts.sessions - line.counts.signed_in_sessions,
    (
        *(formats.SESSIONS, formats.SESSIONS_CHANGE, formats.SESSIONS_IN_A_YEAR, formats.SIGNED_IN),
        formats.EACH._replace(heading="a person"),
    ),
)


def as_html(report: Report) -> str:
    """A complete page in ASCII: the last finished month, plots with their tables, the sites, and
    the remarks.
    """
    page = _PAGE.substitute(
        title=escape(formats.title(report)),
        until=escape(f"{report.made_at:%Y-%m-%d %H:%M}"),
        zone=escape(report.zone),
        content=_content(report) if report.months else f"<p>{formats.NOTHING}</p>",
    )
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _content(report: Report) -> str:
    last = formats.last_finished(report)
    said = "\n".join(f"<li>{escape(note)}</li>" for note in formats.notes(report))
    together = (
        f"<p>{len(report.months)} months together: {number(report.sessions)} sessions. People "
        "can't be added up over months.</p>"
    )
    parts = [
        _headline(last) if last else "",
        _plot(report.months, _PEOPLE),
        _plot(report.months, _SESSIONS),
        together if len(report.months) > 1 else "",
        _sites(report, last) if last and last.counts.sessions and report.sites > 1 else "",
        f"<section><h2>What to know of these numbers</h2>\n<ul>{said}</ul></section>"
        if said
        else "",
    ]
    return "\n".join(part for part in parts if part)


def _headline(line: Line) -> str:
    """The last finished month in large type."""
    change = " on the month before" if line.before else ""
    figures = (
        (number(line.counts.people), "people", formats.people_change(line.before)),
        (number(line.counts.sessions), "sessions", formats.sessions_change(line.before)),
        (formats.percent(line.signed_in_share), "of sessions signed in", formats.NONE),
        (formats.each(line), "sessions a person", formats.NONE),
    )
    cells = "\n".join(
        f"<div><b>{value}</b> <span>{name}</span>"
        + (f"<i>{said}{change}</i>" if said != formats.NONE else "")
        + "</div>"
        for value, name, said in figures
    )
    certain = f"<p>People: {formats.between(line)}.</p>"
    signed_in = formats.of_sign_ins(line)
    if signed_in:
        certain += f"<p>Visitors: {signed_in}.</p>"
    return (
        f'<section><h2>{line.month}</h2>\n<div class="figures">\n{cells}\n</div>{certain}</section>'
    )


def _plot(lines: Sequence[Line], plot: Plot) -> str:
    highest = max(plot.users(line) + plot.visitors(line) for line in lines)
    step = _step(highest)
    top = max(step, -(-highest // step) * step)
    grid = "\n".join(
        f'<span style="bottom: {100 * value / top:.2f}%">{_short(value)}</span>'
        for value in range(0, top + 1, step)
    )
    bars = "\n".join(_bar(place, line, plot, top) for place, line in enumerate(lines))
    labels = "\n".join(_label(place, line, len(lines)) for place, line in enumerate(lines))
    marks = "".join(
        f'<span style="left: {100 * (place + 0.5) / len(lines):.2f}%; '
        f'bottom: {100 * (plot.users(line) + plot.visitors(line)) / top:.2f}%">!</span>'
        for place, line in enumerate(lines)
        if line.remarks
    )
    legend = '<span class="of-marked">! see the end</span>' if marks else ""
    described = escape(
        f"{plot.name} of each month from {lines[0].month} to {lines[-1].month}, users below and "
        f"visitors above. The numbers are in the table that follows."
    )
    return f"""<section><h2>{plot.name} by month</h2>
<figure>
<div class="legend" aria-hidden="true"><span class="of-users">signed-in users</span><span
class="of-visitors">visitors</span><span class="of-unfinished">unfinished month</span>{legend}</div>
<div class="plot" role="img" aria-label="{described}">
<div class="grid">{grid}</div>
<svg viewBox="0 0 {len(lines) * _SLOT:g} {_HEIGHT:g}" preserveAspectRatio="none">
{bars}
</svg>
<div class="months">{labels}</div><div class="marks">{marks}</div>
</div>
<details><summary>{plot.name} by month, as a table</summary>
{_table(f"{plot.name} by month", "month", [*reversed(lines)], _month, plot.columns)}
</details>
</figure></section>"""


def _bar(place: int, line: Line, plot: Plot, top: int) -> str:
    x, wide = place * _SLOT + _GAP, _SLOT - 2 * _GAP
    parts, below = [], 0
    for kind, value in (("users", plot.users(line)), ("visitors", plot.visitors(line))):
        tall = _HEIGHT * value / top
        y = _HEIGHT - _HEIGHT * below / top - tall
        below += value
        css = f"{kind} unfinished" if line.unfinished else kind
        parts.append(
            f'<rect class="{css}" x="{x:g}" y="{y:.2f}" width="{wide:g}" height="{tall:.2f}">'
            f"<title>{line.month}: {value:,} {kind}</title></rect>"
        )
    return "\n".join(parts)


def _label(place: int, line: Line, months: int) -> str:
    """A month's name, shown on the screens that have room for it."""
    from_the_end = months - 1 - place
    kinds = [
        kind
        for kind, most in (("wide", _WIDE_LABELS), ("narrow", _NARROW_LABELS))
        if from_the_end % -(-months // most) == 0
    ]
    if not kinds:
        return ""
    css = "" if len(kinds) == 2 else f' class="{kinds[0]}"'
    left = 100 * (place + 0.5) / months
    return f'<span{css} style="left: {left:.2f}%">{line.month}</span>'


def _sites(report: Report, last: Line) -> str:
    lines = [line for line in report.by_site if line.month == last.month]
    most = max(line.counts.people for line in lines)
    more = len(lines) - _SITES_AT_MOST
    table = _table(
        f"Sites in {last.month}",
        "site",
        lines[:_SITES_AT_MOST],
        lambda line: (
            f'<span class="site">{escape(line.site or "")}{_mark(line)}</span>'
            f'<span class="bar" style="width: {100 * line.counts.people / most:.1f}%"></span>'
        ),
        [each for each in formats.OF_SITES if each is not formats.SESSIONS_IN_A_YEAR],
    )
    rest = f"<p>And {more} more, each with fewer people.</p>" if more > 0 else ""
    marked = "".join(
        f"<li>{escape(line.site or '')}: {escape(said)}</li>"
        for line in lines[:_SITES_AT_MOST]
        for said in line.remarks
    )
    remarks = f"<ul>{marked}</ul>" if marked else ""
    return (
        f"<section><h2>Sites in {last.month}</h2>\n{table}{rest}\n"
        f"<p>Bar: people.</p>{remarks}</section>"
    )


def _table(
    caption: str,
    heading: str,
    lines: Sequence[Line],
    name: Callable[[Line], str],
    columns: Sequence[Column],
) -> str:
    head = "".join(f'<th scope="col">{column.heading}</th>' for column in columns)
    rows = "\n".join(
        f'<tr><th scope="row">{name(line)}</th>'
        + "".join(f"<td>{column.cell(line)}</td>" for column in columns)
        + "</tr>"
        for line in lines
    )
    return f"""<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table>
<thead><tr><th scope="col">{heading}</th>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>"""


def _month(line: Line) -> str:
    return f"{line.month}{_mark(line)}"


def _mark(line: Line) -> str:
    return " <small>unfinished</small>" if line.unfinished else " !" if line.remarks else ""


def _short(value: int) -> str:
    """A number in short form, for the grid."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1_000:g}k" if value >= 10_000 else f"{value:,}"


def _step(highest: int) -> int:
    """The round distance between grid lines, of which there are about four."""
    magnitude = 1
    while magnitude * 40 < highest:
        magnitude *= 10
    steps = (int(step * magnitude) for step in _STEPS)
    return next(step for step in steps if step * 4 >= highest)
