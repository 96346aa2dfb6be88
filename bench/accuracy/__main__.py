"""`python -m bench.accuracy`: how far our count is from people. Needs no server."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.accuracy.month import Outcome, World, simulate
from bench.load.people import UserAgents

RESULTS = Path(__file__).parents[1] / "results"
_USUAL = World()
WORLDS: dict[str, World] = {
    "usual": _USUAL,
    "addresses never change": replace(_USUAL, daily=0.0, changing=0.0),
    "browsers never update": replace(_USUAL, new_browser=0.0, new_system=0.0),
    "one device each, nobody comes from work": replace(_USUAL, both=0.0, in_offices=0.0),
    "nobody is on the way": replace(_USUAL, away=0.0),
    "nobody shares an address": replace(
        _USUAL, share_a_home=0.0, in_offices=0.0, carrier_addresses=1 << 25
    ),
    "carriers with 20 addresses": replace(_USUAL, carrier_addresses=20),
    "whole IPv6 instead of its /64": replace(_USUAL, whole_ipv6=True),
    "those who come come often (6 visits)": replace(_USUAL, visits=6.0),
    "careful: least counted twice": replace(
        _USUAL, visits=1.5, both=0.1, away=0.2, daily=0.0, changing=0.01, new_browser=0.6,
        an_office=40, in_offices=0.2, carrier_addresses=50, share_a_home=0.2,
    ),
    "harsh: most counted twice": replace(
        _USUAL, visits=4.0, both=0.45, away=0.5, daily=0.4, changing=0.05, new_browser=1.0,
        ipv6=0.7, in_offices=0.05, share_a_home=0.0,
    ),
}  # fmt: skip


def run(seeds: int, results: Path) -> int:
    """Simulates, prints and saves the table and the plot."""
    browsers = UserAgents.load("user_agents.txt")
    outcomes = {
        name: [simulate(world, browsers, seed) for seed in range(seeds)]
        for name, world in WORLDS.items()
    }
    text = _markdown(outcomes, seeds)
    print(text)
    results.mkdir(parents=True, exist_ok=True)
    (results / "accuracy.md").write_text(text + "\n")
    _plot(outcomes).savefig(results / "accuracy.png", dpi=100)
    return 0


def _markdown(outcomes: dict[str, list[Outcome]], seeds: int) -> str:
    made = f"Made by `python -m bench.accuracy --seeds {seeds}`: {seeds} simulated months of"
    each_line = f"{_USUAL.people:,} people for each line."
    assumed = "What is assumed, and from where: [month.py](../accuracy/month.py)."
    lines = [
        "# How many people is that?",
        "",
        f"{made} {each_line} {assumed}",
        "",
        "| | counted for each 100 people | least to most | hashes a person | people a hash |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, them in outcomes.items():
        counted = [100 * each.counted for each in them]
        lines.append(
            f"| {name} | {statistics.median(counted):.0f} "
            f"| {min(counted):.0f} to {max(counted):.0f} "
            f"| {statistics.median(each.hashes_a_person for each in them):.2f} "
            f"| {statistics.median(each.people_a_hash for each in them):.3f} |"
        )
    return "\n".join([*lines, "", "![](accuracy.png)"])


def _plot(outcomes: dict[str, list[Outcome]]) -> Figure:
    """A bar a world: how many are counted for each 100 people."""
    names = list(outcomes)
    medians = [100 * statistics.median(each.counted for each in them) for them in outcomes.values()]
    plot = Figure(figsize=(8, 0.8 + 0.35 * len(names)), layout="constrained")
    axis: Any = plot.subplots()
    axis.barh(names, medians, color=["#06403f", *["#2f9a94"] * (len(names) - 1)], height=0.6)
    for place, median in enumerate(medians):
        axis.text(median + 2, place, f"{median:.0f}", va="center", fontsize=9)
    axis.axvline(100, color="#16212c", linewidth=1)
    axis.invert_yaxis()
    axis.set_xlim(0, max(medians) * 1.1)
    axis.set_title("Counted for each 100 people (the line: exact)", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    return plot


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy",
        description="How far the count of visitors is from people, in simulated months.",
    )
    parser.add_argument("--seeds", type=int, default=20, help="months a line (default: 20)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to save")
    parsed = parser.parse_args(arguments)
    return run(parsed.seeds, parsed.results)


if __name__ == "__main__":
    sys.exit(main())
