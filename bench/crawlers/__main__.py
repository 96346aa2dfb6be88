"""`python -m bench.crawlers`: how many crawlers are recognised, and how many people mistaken.

The collector's filter beside crawlerdetect and npm's isbot, on the User-Agents of `corpora`. It
needs no server.
"""

import argparse
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.crawlers import corpora
from bench.crawlers.corpora import Row
from bench.crawlers.times import measure
from bench.tables import RESULTS, markdown_table, save_page
from collector.request.crawlers import CrawlerFilter

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
    missed = [row for row in corpora.crawlers(agents) if ours.examine(row.text) is None]
    reasons = [(ours.examine(row.text), row) for row in people if row.runs_scripts]
    mistaken = [(reason, row) for reason, row in reasons if reason is not None]
    lines = [
        "# Crawlers",
        "",
        f"Made by `python -m bench.crawlers` (Python {platform.python_version()}).",
        "[The corpus](../crawlers/corpora/README.md) says what the figures mean.",
        "",
        *_recall(judges, agents),
        *_false_positives(judges, people),
        *markdown_table(
            ("µs a User-Agent", "median (rounds)", "99th percentile", "worst"),
            measure(ours, counted, rounds),
            numbers=True,
        )[:-1],
        *_examples("Crawlers that were missed, by source", [(row.source, row) for row in missed]),
        *_examples("People who were taken for crawlers, by reason", mistaken),
    ]
    print(save_page(results, "crawlers", lines), end="")
    return 0


def _recall(judges: dict[str, Judge], agents: Sequence[Row]) -> list[str]:
    crawlers = {
        "by two of isbot, crawler-user-agents, node-device-detector": corpora.crawlers(agents),
        "the same, with crawlerdetect as a fourth": [row for row in agents if len(row.called) > 1],
        "AI agents": corpora.ai_agents(),
    }
    lines = []
    for what, rows in crawlers.items():
        shares = [f"{100 * sum(map(judge, rows)) / len(rows):.2f}%" for judge in judges.values()]
        lines.append([what, f"{len(rows):,}", *shares])
    head = ("Recall: crawlers that were found", "User-Agents", *judges)
    return markdown_table(head, lines, numbers=True)


def _false_positives(judges: dict[str, Judge], people: Sequence[Row]) -> list[str]:
    sources = _grouped((row.source, row) for row in people if row.runs_scripts)
    sources["made up, to be mistaken"] = corpora.mistaken_people()
    sources["of all sources, what can't run a script"] = [
        row for row in people if not row.runs_scripts
    ]
    lines = []
    for source, rows in sources.items():
        taken = [str(sum(map(judge, rows))) for judge in judges.values()]
        lines.append([source, f"{len(rows):,}", *taken])
    head = ("False positives: people who were taken for crawlers", "User-Agents", *judges)
    return markdown_table(head, lines, numbers=True)


def _grouped(rows: Iterable[tuple[str, Row]]) -> defaultdict[str, list[Row]]:
    groups = defaultdict[str, list[Row]](list)
    for name, row in rows:
        groups[name].append(row)
    return groups


def _examples(title: str, found: Iterable[tuple[str, Row]]) -> list[str]:
    lines = ["", f"## {title}", ""]
    for name, rows in sorted(_grouped(found).items(), key=lambda group: -len(group[1])):
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
