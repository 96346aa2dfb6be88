"""A result as JSON, a Markdown page and a plot; all results as one summary."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure as Plot

from bench.speed.benchmark import Figure, Result, number
from bench.tables import markdown_table, save_page

_HEAD = ("what", "against", "reach", "reached", "")
_OURS, _OTHERS = "#1f6f8b", "#b8b8b8"


def save(name: str, result: Result, made: Mapping[str, str], folder: Path) -> str:
    """Writes `NAME.json`, `NAME.md` and `NAME.png`; the page's text."""
    page = save_page(folder, name, _page(name, result, made))
    document = {"made": dict(made), "name": name, **asdict(result)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / f"{name}.json").write_text(text)
    plot(result).savefig(folder / f"{name}.png", dpi=110)
    return page


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
    return save_page(folder, "summary", lines)


def _page(name: str, result: Result, made: Mapping[str, str]) -> list[str]:
    lines = [f"# {result.title}", "", f"Made by `python -m bench {name}`.", ""]
    if result.figures:
        lines += markdown_table(_HEAD, [_row(figure) for figure in result.figures])
        lines += ["A ratio is the median of the rounds' ratios.", ""]
    rows = []
    for quantity, contenders in result.measured.by_quantity.items():
        for contender, values in contenders.items():
            least, middle, most = map(number, (min(values), median(values), max(values)))
            rows.append((contender, quantity, middle, f"{least} to {most}", str(len(values))))
    lines += markdown_table(("", "", "median", "least to most", "rounds"), rows)
    lines += [*(f"- {note}" for note in result.notes), "", f"![]({name}.png)", ""]
    return [*lines, *(f"{each}: {what}  " for each, what in made.items())]


def _row(figure: Figure) -> tuple[str, ...]:
    said = {True: "reached", False: "**not reached**", None: ""}[figure.holds]
    return figure.what, figure.against, figure.reach, figure.shown, said


def plot(result: Result) -> Plot:
    """A panel a quantity, a bar a contender: the median, with the least and the most."""
    panels = result.measured.by_quantity
    height = sum(0.9 + 0.35 * len(panel) for panel in panels.values())
    figure = Plot(figsize=(8, max(2.0, height)), layout="constrained")
    shares = [1 + len(panel) for panel in panels.values()]
    axes: Any = figure.subplots(len(panels), 1, squeeze=False, height_ratios=shares)
    for axis, (quantity, panel) in zip(axes[:, 0], panels.items(), strict=True):
        _bars(axis, panel)
        axis.set_title(quantity, loc="left", fontsize=10)
    figure.suptitle(result.title)
    return figure


def _bars(axis: Any, panel: Mapping[str, Sequence[float]]) -> None:
    medians = {contender: median(values) for contender, values in panel.items()}
    below = [medians[contender] - min(values) for contender, values in panel.items()]
    above = [max(values) - medians[contender] for contender, values in panel.items()]
    colours = [_OURS if contender.startswith("ours") else _OTHERS for contender in panel]
    bars = axis.barh(
        list(panel), medians.values(), xerr=(below, above), color=colours, capsize=3, height=0.6
    )
    axis.bar_label(bars, list(map(number, medians.values())), padding=6, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(map(max, panel.values())) * 1.15)
    axis.spines[["top", "right"]].set_visible(False)
