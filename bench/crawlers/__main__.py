"""`python -m bench.crawlers`: how well and how fast crawlers are told from people.

Ours beside crawlerdetect as it is and npm's isbot, on the User-Agents of bench/corpora: those that
were looked at while the signs were written, and five hold-outs that judged them. Needs no server.
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

from bench.crawlers import corpora
from bench.crawlers.corpora import Row
from bench.crawlers.times import TIMED, Times, measure
from collector.request.crawlers import CrawlerFilter
from collector.request.crawlers.listed import CrawlerList, fold

RESULTS = Path(__file__).parents[1] / "results"
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
        unseen_people, unseen_agents = corpora.unseen_people(), corpora.unseen_agents()
        later = corpora.later_hold_outs()
    try:
        with console.status("checking them against crawlerdetect …"):
            later_rows = [row for pair in later.values() for rows in pair for row in rows]
            _check([*people, *unseen_people], [*agents, *unseen_agents, *later_rows])
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
        figures += _hold_out(judges, unseen_people, unseen_agents)
        for name, (its_people, its_agents) in later.items():
            figures += _later_hold_out(f"{name} hold-out", judges, its_people, its_agents)
        figures += _families(judges)
        mistakes = _false_positives(ours, people) + _misses(ours, agents)
        held_out = {"first": (unseen_people, unseen_agents), **later}
        for name, (its_people, its_agents) in held_out.items():
            mistakes += _false_positives(ours, its_people, f"of the {name} hold-out ")
            mistakes += _misses(ours, its_agents, f"of the {name} hold-out ")
    with console.status("measuring times …"):
        times = measure(ours, [row.text for row in people if row.source == "user-agents"], rounds)
    lines = [*_head(), *_judgements(), *_table(judges, figures), *_times(times), *mistakes]
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
    if len(rows) < 252_000 or len({row.text for row in rows}) < 249_000:
        raise Unsound("bench/corpora is not whole: see bench/crawlers/corpora_from_packages.py")
    for row in random.Random(7).sample(rows, _CHECKED):
        if len(row.text) <= _LONGEST_CHECKED and stock.is_crawler(row.text) != ("c" in row.called):
            raise Unsound(f"crawlerdetect now says something else of {row.text!r}")
    if any(listed.lists(fold(row.text)) != ("c" in row.called) for row in rows):
        raise Unsound("our reading of crawlerdetect's list gives other verdicts than the list")


def _figures(
    judges: dict[str, Judge], people: Sequence[Row], agents: Sequence[Row]
) -> list[tuple[str, list[str]]]:
    """A name and what each judge scored, for each line of the table: of what was looked at."""
    lines: list[tuple[str, list[str]]] = []
    for source in ("user-agents", "top-user-agents", "crawlerdetect"):
        rows = [row for row in people if row.source == source]
        what = "crawlerdetect's devices" if source == "crawlerdetect" else f"npm {source}"
        lines.append(_line(f"taken for crawlers: {what}", judges, rows, _share_taken))
    for what, rows in (
        ("found: called so by two of isbot, crawler-user-agents, device-detector", _strict(agents)),
        (
            "found: called so by two of these or crawlerdetect",
            [row for row in agents if len(row.called) >= _NEEDED],
        ),
        ("found: named AI agents", corpora.ai_agents()),
    ):
        lines.append(_line(what, judges, rows, _share_found))
    return lines


def _hold_out(
    judges: dict[str, Judge], people: Sequence[Row], agents: Sequence[Row]
) -> list[tuple[str, list[str]]]:
    """The same of the hold-out, by halves: the second judged until the end."""
    lines: list[tuple[str, list[str]]] = []
    for half, is_held_out in (("first half", False), ("second half", True)):
        found = [row for row in _strict(agents) if row.is_held_out == is_held_out]
        for what, rows in (
            ("agents of two lists", found),
            ("of these, with a name", [row for row in found if row.family]),
            ("AI agents", [row for row in found if ",ai-" in row.tags]),
        ):
            lines.append(
                _line(f"first hold-out, {half}, found: {what}", judges, rows, _share_found)
            )
        part = [row for row in people if row.is_held_out == is_held_out]
        lines.append(
            _line(
                f"first hold-out, {half}, taken for crawlers: browsers", judges, part, _share_taken
            )
        )
    return lines


def _later_hold_out(
    name: str, judges: dict[str, Judge], people: Sequence[Row], agents: Sequence[Row]
) -> list[tuple[str, list[str]]]:
    """Of a hold-out that has known texts, too: by five lists, three of them, and what is new."""
    new = [row for row in agents if row.tags == "new"]
    parts = {
        "agents of two of five lists": agents,
        "of isbot, crawler-user-agents, device-detector": _strict(agents),
        "texts that no other corpus has": new,
    }
    lines = [
        _line(f"{name}, found: {what}", judges, rows, _share_found) for what, rows in parts.items()
    ]
    return [
        *lines,
        _line(f"{name}, taken for crawlers: devices and browsers", judges, people, _share_taken),
    ]


def _strict(agents: Iterable[Row]) -> list[Row]:
    return [row for row in agents if len(_OTHERS & set(row.called)) >= _NEEDED]


def _line(
    what: str,
    judges: dict[str, Judge],
    rows: Sequence[Row],
    share: Callable[[Judge, Sequence[Row]], str],
) -> tuple[str, list[str]]:
    return f"{what} ({len(rows):,})", [share(judge, rows) for judge in judges.values()]


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


def _false_positives(ours: CrawlerFilter, people: Iterable[Row], whose: str = "") -> list[str]:
    lines = ["", f"## People {whose}whom ours takes for crawlers, by reason", ""]
    by_reason: dict[str, list[str]] = {}
    for row in people:
        reason = ours.examine(row.text)
        if reason is not None:
            by_reason.setdefault(reason, []).append(row.text)
    return lines + _by_family(by_reason)


def _misses(ours: CrawlerFilter, agents: Iterable[Row], whose: str = "") -> list[str]:
    lines = ["", f"## Agents {whose}that two other lists call crawlers, and ours does not", ""]
    by_kind: dict[str, list[str]] = {}
    for row in _strict(agents):
        if ours.examine(row.text) is None:
            kind = row.tags.rpartition(",")[2] or "without a kind"
            by_kind.setdefault(kind, []).append(row.text)
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
        + ". bench/crawlers/corpora/README.md says who looked at what, and when.",
        "",
    ]


def _judgements() -> list[str]:
    """What was found before anybody had looked: written down then, not made anew."""
    return [
        "## Judged before anybody had looked",
        "",
        "Rounds 1, 3, 5, 8 and 9: the first to the fifth hold-out, whole. Rounds 2, 4 and 6: the",
        "second halves of the first three, after their first were looked at.",
        "",
        "| round | | User-Agents | ours | crawlerdetect | isbot |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(cells)} |" for cells in corpora.judgements()),
        "",
        "## Now, after all of it was looked at",
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
