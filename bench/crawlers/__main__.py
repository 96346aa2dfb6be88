"""`python -m bench.crawlers`: how many crawlers are found, and how many people are mistaken.

The collector's filter beside crawlerdetect and npm's isbot, on the User-Agents of `corpora`. It
needs no server.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.crawlers import corpora
from bench.crawlers.corpora import Row
from bench.crawlers.times import TIMED, Times, measure
from collector.request.crawlers import CrawlerFilter

RESULTS = Path(__file__).parents[1] / "results"
_SHOWN = 5  # examples of each kind of mistake
_EXAMPLE = 70  # characters of an example

Judge = Callable[[Row], bool]


def run(rounds: int, results: Path) -> int:
    """Judges, measures, prints the tables and saves them."""
    ours = CrawlerFilter()
    judges: dict[str, Judge] = {
        "ours": lambda row: ours.examine(row.text) is not None,
        "crawlerdetect": lambda row: "c" in row.called,
        "isbot": lambda row: "i" in row.called,
    }
    people, agents = corpora.people(), corpora.agents()
    counted = [row.text for row in people if row.source == "user-agents"]
    lines = [
        "# Crawlers",
        "",
        f"Made by `python -m bench.crawlers` (Python {platform.python_version()}).",
        "[The corpus](../crawlers/corpora/README.md) says what the figures mean.",
        *_recall(judges, agents),
        *_false_positives(judges, people),
        *_times(measure(ours, counted, rounds)),
        *_missed(ours, agents),
        *_mistaken(ours, people),
    ]
    text = "\n".join(lines)
    print(text)
    results.mkdir(parents=True, exist_ok=True)
    (results / "crawlers.md").write_text(text + "\n", encoding="utf-8")
    return 0


def _recall(judges: dict[str, Judge], agents: Sequence[Row]) -> list[str]:
    crawlers = {
        "by two of isbot, crawler-user-agents, node-device-detector": corpora.crawlers(agents),
        "the same, with crawlerdetect as a fourth": [row for row in agents if len(row.called) > 1],
        "AI agents": corpora.ai_agents(),
    }
    table = _table("Recall: crawlers that were found", judges)
    for what, rows in crawlers.items():
        shares = [f"{100 * sum(map(judge, rows)) / len(rows):.2f}%" for judge in judges.values()]
        table.append(f"| {what} | {len(rows):,} | {' | '.join(shares)} |")
    return table


def _false_positives(judges: dict[str, Judge], people: Sequence[Row]) -> list[str]:
    sources = _grouped((row.source, row) for row in people if row.runs_scripts)
    sources["made up, to be mistaken"] = corpora.mistaken_people()
    sources["of all sources, what can't run a script"] = [
        row for row in people if not row.runs_scripts
    ]
    table = _table("False positives: people who were taken for crawlers", judges)
    for source, rows in sources.items():
        taken = [str(sum(map(judge, rows))) for judge in judges.values()]
        table.append(f"| {source} | {len(rows):,} | {' | '.join(taken)} |")
    return table


def _table(title: str, judges: dict[str, Judge]) -> list[str]:
    head = f"| {title} | User-Agents | {' | '.join(judges)} |"
    return ["", head, f"| --- | ---: {'| ---: ' * len(judges)}|"]


def _times(times: dict[str, Times]) -> list[str]:
    lines = ["", "| µs a User-Agent | median (rounds) | 99th percentile | worst |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, spread in times.items():
        lines.append(
            f"| {TIMED[name]} | {spread.median:.2f} ({spread.least:.2f} to {spread.most:.2f}) "
            f"| {spread.p99:.2f} | {spread.worst:.2f} |"
        )
    return lines


def _missed(ours: CrawlerFilter, agents: Sequence[Row]) -> list[str]:
    missed = [row for row in corpora.crawlers(agents) if ours.examine(row.text) is None]
    by_source = _grouped((row.source, row) for row in missed)
    return _examples("Crawlers that were missed, by source", by_source)


def _mistaken(ours: CrawlerFilter, people: Sequence[Row]) -> list[str]:
    reasons = ((ours.examine(row.text), row) for row in people if row.runs_scripts)
    by_reason = _grouped((reason, row) for reason, row in reasons if reason is not None)
    return _examples("People who were taken for crawlers, by reason", by_reason)


def _grouped(rows: Iterable[tuple[str, Row]]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for name, row in rows:
        groups.setdefault(name, []).append(row)
    return groups


def _examples(title: str, groups: dict[str, list[Row]]) -> list[str]:
    lines = ["", f"## {title}", ""]
    for name, rows in sorted(groups.items(), key=lambda group: -len(group[1])):
        texts = "; ".join(f"`{row.text[:_EXAMPLE]}`" for row in rows[:_SHOWN])
        lines.append(f"- {name}: {len(rows)}. {texts}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crawlers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of timing (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to save to")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    return run(arguments.rounds, arguments.results)


if __name__ == "__main__":
    sys.exit(main())
