"""A result as JSON, a Markdown page and a plot; all results as one summary."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Plot

from bench.speed.benchmark import Figure, Result, Series, number
from bench.tables import markdown_table

_HEAD = ("what", "against", "reach", "reached", "")
_OURS, _OTHERS = "#1f6f8b", "#b8b8b8"


def save(name: str, result: Result, made: Mapping[str, str], folder: Path) -> None:
    """Writes `NAME.json`, `NAME.md` and `NAME.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"made": dict(made), "name": name, **asdict(result)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / f"{name}.json").write_text(text)
    (folder / f"{name}.md").write_text(markdown(name, result, made))
    plot(result).savefig(folder / f"{name}.png", dpi=110)


def summarise(folder: Path, names: Sequence[str]) -> str:
    """Writes `summary.md`, of all results in the folder; its text."""
    documents = [
        json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").exists()
    ]
    rows = [
        (*_row(Figure(**figure)), f"[`python -m bench {each['name']}`]({each['name']}.md)")
        for each in documents
        for figure in each["figures"]
    ]
    made = sorted({f"{each['made']['commit']}, {each['made']['machine']}" for each in documents})
    lines = [
        *("# What is to be reached, and what was", ""),
        *markdown_table((*_HEAD, "made by"), rows),
        *("Medians, with the least and the most of the rounds.", "", *made, ""),
        *(f"![{each['title']}]({each['name']}.png)\n" for each in documents),
    ]
    text = "\n".join(lines)
    (folder / "summary.md").write_text(text)
    return text


def markdown(name: str, result: Result, made: Mapping[str, str]) -> str:
    """The result as a page."""
    lines = [f"# {result.title}", "", f"Made by `python -m bench {name}`.", ""]
    if result.figures:
        lines += markdown_table(_HEAD, [_row(figure) for figure in result.figures])
        lines += ["A ratio is the median of the rounds' ratios.", ""]
    rows = []
    for series in result.series:
        least, median, most = (
            number(value) for value in (min(series.values), series.median, max(series.values))
        )
        rounds = str(len(series.values))
        rows.append((series.contender, series.quantity, median, f"{least} to {most}", rounds))
    lines += markdown_table(("", "", "median", "least to most", "rounds"), rows)
    lines += [*(f"- {note}" for note in result.notes), "", f"![]({name}.png)", ""]
    lines += [f"{each}: {what}  " for each, what in made.items()]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> tuple[str, ...]:
    said = {True: "reached", False: "**not reached**", None: ""}[figure.holds]
    return figure.what, figure.against, figure.reach, figure.shown, said


def plot(result: Result) -> Plot:
    """A panel a quantity, a bar a contender: the median, with the least and the most."""
    panels: dict[str, list[Series]] = {}
    for series in result.series:
        panels.setdefault(series.quantity, []).append(series)
    height = sum(0.9 + 0.35 * len(panel) for panel in panels.values())
    figure = Plot(figsize=(8, max(2.0, height)), layout="constrained")
    shares = [1 + len(panel) for panel in panels.values()]
    axes: Any = figure.subplots(len(panels), 1, squeeze=False, height_ratios=shares)
    for axis, (quantity, panel) in zip(axes[:, 0], panels.items(), strict=True):
        _bars(axis, panel)
        axis.set_title(quantity, loc="left", fontsize=10)
    figure.suptitle(result.title)
    return figure


def _bars(axis: Any, panel: Sequence[Series]) -> None:
    names = [series.contender for series in panel]
    medians = [series.median for series in panel]
    below = [series.median - min(series.values) for series in panel]
    above = [max(series.values) - series.median for series in panel]
    colours = [_OURS if name.startswith("ours") else _OTHERS for name in names]
    bars = axis.barh(names, medians, xerr=(below, above), color=colours, capsize=3, height=0.6)
    axis.bar_label(bars, [number(median) for median in medians], padding=6, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(max(series.values) for series in panel) * 1.15)
    axis.spines[["top", "right"]].set_visible(False)
