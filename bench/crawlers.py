"""`python -m bench.crawlers`: how well and how fast crawlers are told from people.

Ours beside crawlerdetect as it is and npm's isbot, on the User-Agents of bench/corpora. Half of
them, by a hash of the agent's name, was for tuning; the other half judges. Needs no server.
"""

import argparse
import json
import platform
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from crawlerdetect import CrawlerDetect
from rich.console import Console

from bench import corpora
from bench.corpora import Row
from bench.crawler_times import TIMED, Times, measure
from collector.crawlers import CrawlerFilter
from collector.crawlers.listed import CrawlerList, fold

RESULTS = Path(__file__).parent / "results"
_NEEDED = 2  # lists that call an agent a crawler's, for it to be one
_OTHERS = frozenset("imd")  # the lists that ours is not built on
_CHECKED = 500
_LONGEST_CHECKED = 300
_SHOWN = 5

Judge = Callable[[Row], bool]


class Unsound(Exception):
    """The corpora are not what they say."""


def run(rounds: int, results: Path) -> int:
    """Judges, measures, prints and saves the tables; 1 where the corpora are unsound."""
    console = Console(stderr=True)
    ours = CrawlerFilter()
    with console.status("reading the corpora …"):
        people, agents = corpora.people(), corpora.agents()
    try:
        with console.status("checking them against crawlerdetect …"):
            _check(people, agents)
    except Unsound as wrong:
        print(wrong, file=sys.stderr)
        return 1
    judges: dict[str, Judge] = {
        "ours": lambda row: ours.examine(row.text) is not None,
        "crawlerdetect": lambda row: "c" in row.called,
        "isbot": lambda row: "i" in row.called,
    }
    with console.status(f"judging {len(people) + len(agents):,} User-Agents …"):
        figures = _figures(judges, people, agents)
        mistakes = _false_positives(ours, people) + _misses(ours, agents)
    with console.status("measuring times …"):
        times = measure(ours, [row.text for row in people if row.source == "user-agents"], rounds)
    lines = [*_head(), *_table(judges, figures), *_times(times), *mistakes]
    print("\n".join(lines))
    results.mkdir(parents=True, exist_ok=True)
    (results / "crawlers.md").write_text("\n".join([*lines, ""]))
    kept: dict[str, Any] = {
        "corpora": corpora.VERSIONS,
        "figures": {name: dict(zip(judges, values, strict=True)) for name, values in figures},
        "microseconds": {name: spread._asdict() for name, spread in times.items()},
    }
    (results / "crawlers.json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0


def _check(people: Sequence[Row], agents: Sequence[Row]) -> None:
    """Raises Unsound unless what the corpora say of crawlerdetect is so."""
    stock, listed = CrawlerDetect(), CrawlerList.of_package()
    rows = [*people, *agents]
    if len(rows) < 170_000 or len({row.text for row in rows}) < 168_000:
        raise Unsound("bench/corpora is not whole: see bench/corpora_from_packages.py")
    for row in random.Random(7).sample(rows, _CHECKED):
        if len(row.text) <= _LONGEST_CHECKED and stock.is_crawler(row.text) != ("c" in row.called):
            raise Unsound(f"crawlerdetect now says something else of {row.text!r}")
    if any(listed.lists(fold(row.text)) != ("c" in row.called) for row in rows):
        raise Unsound("our reading of crawlerdetect's list gives other verdicts than the list")


def _figures(
    judges: dict[str, Judge], people: Sequence[Row], agents: Sequence[Row]
) -> list[tuple[str, list[str]]]:
    """A name and what each judge scored, for each line of the table."""
    strict = [row for row in agents if len(_OTHERS & set(row.called)) >= _NEEDED]
    any_two = [row for row in agents if len(row.called) >= _NEEDED]
    named = corpora.ai_agents()
    lines: list[tuple[str, list[str]]] = []
    for source in ("user-agents", "top-user-agents", "crawlerdetect"):
        rows = [row for row in people if row.source == source]
        what = "crawlerdetect's devices" if source == "crawlerdetect" else f"npm {source}"
        lines += _lines(f"taken for crawlers: {what}", judges, rows, _share_taken)
    for what, rows in (
        ("found: called so by two of isbot, crawler-user-agents, device-detector", strict),
        ("found: called so by two of these or crawlerdetect", any_two),
        ("found: named AI agents", named),
    ):
        lines += _lines(what, judges, rows, _share_found)
    lines += _families(judges)
    return lines


def _lines(
    what: str,
    judges: dict[str, Judge],
    rows: Sequence[Row],
    share: Callable[[Judge, Sequence[Row]], str],
) -> list[tuple[str, list[str]]]:
    halves = {
        "held out": [row for row in rows if row.is_held_out],
        "tuning": [row for row in rows if not row.is_held_out],
        "all": rows,
    }
    return [
        (f"{what} ({half}: {len(part):,})", [share(judge, part) for judge in judges.values()])
        for half, part in halves.items()
    ]


def _families(judges: dict[str, Judge]) -> list[tuple[str, list[str]]]:
    rows = corpora.mistaken_people()
    return [
        (
            f"taken for crawlers: {family} (made up: {len(part)})",
            [str(sum(map(judge, part))) for judge in judges.values()],
        )
        for family in dict.fromkeys(row.family for row in rows)
        for part in [[row for row in rows if row.family == family]]
    ]


def _share_taken(judge: Judge, rows: Sequence[Row]) -> str:
    taken = sum(map(judge, rows))
    return f"{taken} ({100 * taken / len(rows):.4f}%)"


def _share_found(judge: Judge, rows: Sequence[Row]) -> str:
    return f"{100 * sum(map(judge, rows)) / len(rows):.2f}%"


def _false_positives(ours: CrawlerFilter, people: Iterable[Row]) -> list[str]:
    lines = ["", "## People whom ours takes for crawlers, by reason", ""]
    by_reason: dict[str, list[str]] = {}
    for row in people:
        reason = ours.examine(row.text)
        if reason is not None:
            by_reason.setdefault(reason, []).append(row.text)
    return lines + _by_family(by_reason)


def _misses(ours: CrawlerFilter, agents: Iterable[Row]) -> list[str]:
    lines = ["", "## Agents that two other lists call crawlers, and ours does not, by kind", ""]
    by_kind: dict[str, list[str]] = {}
    for row in agents:
        if len(_OTHERS & set(row.called)) >= _NEEDED and ours.examine(row.text) is None:
            by_kind.setdefault(row.tags or "of crawlerdetect's own", []).append(row.text)
    return lines + _by_family(by_kind)


def _by_family(families: dict[str, list[str]]) -> list[str]:
    counts = Counter({name: len(texts) for name, texts in families.items()})
    return [
        f"- {name}: {count}. {'; '.join(f'`{text[:70]}`' for text in families[name][:_SHOWN])}"
        for name, count in counts.most_common()
    ] or ["None."]


def _head() -> list[str]:
    return [
        "# Crawlers",
        "",
        f"Made by `python -m bench.crawlers` (Python {platform.python_version()}, "
        f"{platform.machine()}), of "
        + ", ".join(f"{name} {version}" for name, version in corpora.VERSIONS.items())
        + ". The held-out half judges; versions of one agent are in one half.",
        "",
    ]


def _table(judges: dict[str, Judge], figures: list[tuple[str, list[str]]]) -> list[str]:
    lines = [f"| | {' | '.join(judges)} |", f"| --- {'| ---: ' * len(judges)}|"]
    return lines + [f"| {name} | {' | '.join(values)} |" for name, values in figures]


def _times(times: dict[str, Times]) -> list[str]:
    lines = ["", "| µs a User-Agent | median (rounds) | 99th percentile | worst |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, spread in times.items():
        lines.append(
            f"| {TIMED[name]} | {spread.median:.2f} ({spread.least:.2f} to {spread.most:.2f}) "
            f"| {spread.p99:.2f} | {spread.worst:.2f} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crawlers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of timing (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    try:
        return run(arguments.rounds, arguments.results)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
