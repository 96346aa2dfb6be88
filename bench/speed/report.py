"""A result as JSON, a Markdown table and a plot; all results as one summary."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Plot

from bench.speed.benchmark import Figure, Result, Series, number

RESULTS = Path(__file__).parents[1] / "results"
_OURS, _OTHERS = "#1f6f8b", "#b8b8b8"


def save(result: Result, made: Mapping[str, str], folder: Path) -> None:
    """Writes `NAME.json`, `NAME.md` and `NAME.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"made": dict(made), **asdict(result)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / f"{result.name}.json").write_text(text)
    (folder / f"{result.name}.md").write_text(markdown(result, made))
    _plot(result).savefig(folder / f"{result.name}.png", dpi=110)


def summarise(folder: Path, names: Sequence[str]) -> str:
    """Writes `summary.md`, of all results that the folder holds; its text."""
    lines = ["# What is to be reached, and what was", ""]
    documents = [
        json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").exists()
    ]
    lines += _table(
        ("what", "against", "reach", "reached", "", "made by"),
        [
            (
                *_row(Figure(**figure)),
                f"[`python -m bench {document['name']}`]({document['name']}.md)",
            )
            for document in documents
            for figure in document["figures"]
        ],
    )
    made = sorted({f"{each['made']['commit']}, {each['made']['machine']}" for each in documents})
    lines += ["Medians, with the least and the most of the rounds.", "", *made, ""]
    for document in documents:
        lines += [f"![{document['title']}]({document['name']}.png)", ""]
    text = "\n".join(lines)
    (folder / "summary.md").write_text(text)
    return text


def markdown(result: Result, made: Mapping[str, str]) -> str:
    """The result as a page."""
    lines = [f"# {result.title}", "", f"Made by `python -m bench {result.name}`.", ""]
    if result.figures:
        rows = [_row(figure) for figure in result.figures]
        lines += _table(("what", "against", "reach", "reached", ""), rows)
    rows = [
        (
            series.contender,
            series.quantity,
            number(series.median),
            f"{number(series.least)} to {number(series.most)}",
            str(len(series.values)),
        )
        for series in result.series
    ]
    lines += _table(("", "", "median", "least to most", "rounds"), rows)
    lines += [f"- **{name}**: {what}" for name, what in result.contenders.items()]
    lines += ["", *(f"- {note}" for note in result.notes), "", f"![]({result.name}.png)", ""]
    lines += [f"{name}: {what}  " for name, what in made.items()]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> tuple[str, ...]:
    said = {True: "reached", False: "**not reached**", None: ""}[figure.holds]
    return figure.what, figure.against, figure.reach, figure.shown, said


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(cells) + " |" for cells in lines), ""]


def _plot(result: Result) -> Plot:
    """A panel a quantity, a bar a contender: the median, with the least and the most."""
    quantities = list(dict.fromkeys(series.quantity for series in result.series))
    panels = [[s for s in result.series if s.quantity == each] for each in quantities]
    height = sum(0.9 + 0.35 * len(panel) for panel in panels)
    plot = Plot(figsize=(8, max(2.0, height)), layout="constrained")
    shares = [1 + len(panel) for panel in panels]
    axes: Any = plot.subplots(len(panels), 1, squeeze=False, height_ratios=shares)
    for axis, panel, quantity in zip(axes[:, 0], panels, quantities, strict=True):
        _bars(axis, panel)
        axis.set_title(quantity, loc="left", fontsize=10)
    plot.suptitle(result.title)
    return plot


def _bars(axis: Any, panel: Sequence[Series]) -> None:
    names = [series.contender for series in panel]
    medians = [series.median for series in panel]
    below = [series.median - series.least for series in panel]
    above = [series.most - series.median for series in panel]
    colours = [_OURS if name.startswith("ours") else _OTHERS for name in names]
    axis.barh(names, medians, xerr=(below, above), color=colours, capsize=3, height=0.6)
    for place, series in enumerate(panel):
        axis.annotate(
            number(series.median),
            (series.most, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axis.invert_yaxis()
    axis.set_xlim(0, max(series.most for series in panel) * 1.15)
    axis.spines[["top", "right"]].set_visible(False)
