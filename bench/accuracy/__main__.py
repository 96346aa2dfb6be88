"""`python -m bench.accuracy`: how far our count is from people. Needs no server."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.accuracy.month import World, simulate
from bench.load.people import UserAgents
from bench.speed.benchmark import Measurements, Result
from bench.speed.report import plot
from bench.tables import RESULTS, markdown_table, save_page

_TITLE = "How many people is that?"
_COUNTED = "counted for each 100 people"
_USUAL = World()
WORLDS: dict[str, World] = {
    "usual": _USUAL,
    "addresses never change": replace(_USUAL, daily=0.0, changing=0.0),
    "browsers never update": replace(_USUAL, new_browser=0.0, new_system=0.0),
    "one device each, no visits from work": replace(_USUAL, both=0.0, in_offices=0.0),
    "no visits on the way": replace(_USUAL, away=0.0),
    "no shared addresses": replace(
        _USUAL, share_a_home=0.0, in_offices=0.0, carrier_addresses=1 << 25
    ),
    "carriers with 20 addresses": replace(_USUAL, carrier_addresses=20),
    "whole IPv6 instead of its /64": replace(_USUAL, whole_ipv6=True),
    "more visits (6 a person)": replace(_USUAL, visits=6.0),
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
    rows: list[tuple[str, ...]] = []
    measured = Measurements()
    for name, world in WORLDS.items():
        months = [simulate(world, browsers, seed) for seed in range(seeds)]
        counted = [100 * month.counted for month in months]
        for value in counted:
            measured.add(name, {_COUNTED: value})
        hashes = median(month.hashes_a_person for month in months)
        people = median(month.people_a_hash for month in months)
        least_to_most = f"{min(counted):.0f} to {max(counted):.0f}"
        shown = f"{median(counted):.0f}", least_to_most, f"{hashes:.2f}", f"{people:.3f}"
        rows.append((name, *shown))
    heads = ("", _COUNTED, "least to most", "hashes a person", "people a hash")
    made = f"Made by `python -m bench.accuracy --seeds {seeds}`: {seeds} simulated months of"
    assumed = "What is assumed, and from where: [month.py](../accuracy/month.py)."
    lines = [
        f"# {_TITLE}",
        "",
        f"{made} {_USUAL.people:,} people for each line. {assumed}",
        "",
        *markdown_table(heads, rows, numbers=True),
        "![](accuracy.png)",
    ]
    print(save_page(results, "accuracy", lines), end="")
    plot(Result(_TITLE, measured, ())).savefig(results / "accuracy.png", dpi=100)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="months a line (default: 20)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to save")
    arguments = parser.parse_args()
    return run(arguments.seeds, arguments.results)


if __name__ == "__main__":
    sys.exit(main())
