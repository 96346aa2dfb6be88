"""`python -m bench.crawlers`: how many crawlers are recognised, and how many people mistaken.

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
from bench.crawlers.times import measure
from bench.tables import RESULTS, markdown_table
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
    lines = [
        "# Crawlers",
        "",
        f"Made by `python -m bench.crawlers` (Python {platform.python_version()}).",
        "[The corpus](../crawlers/corpora/README.md) says what the figures mean.",
        "",
        *_recall(judges, agents),
        *_false_positives(judges, people),
        *_table(
            ("µs a User-Agent", "median (rounds)", "99th percentile", "worst"),
            measure(ours, counted, rounds),
        )[:-1],
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
    lines = []
    for what, rows in crawlers.items():
        shares = [f"{100 * sum(map(judge, rows)) / len(rows):.2f}%" for judge in judges.values()]
        lines.append([what, f"{len(rows):,}", *shares])
    return _table(("Recall: crawlers that were found", "User-Agents", *judges), lines)


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
    what = "False positives: people who were taken for crawlers"
    return _table((what, "User-Agents", *judges), lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return markdown_table(head, lines, ["---", *["---:"] * (len(head) - 1)])


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
