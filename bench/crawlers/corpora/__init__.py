"""User-Agents of people and of crawlers, with the decisions of four lists.

README.md has the sources, and licences.txt their licences.
"""

import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_OTHER_LISTS = frozenset("imd")


@dataclass(frozen=True, slots=True)
class Row:
    """A User-Agent, and the letters of the lists that call it a crawler's.

    c crawlerdetect, i isbot, m crawler-user-agents, d node-device-detector. For people only the
    first two are known.
    """

    text: str
    called: str
    source: str
    family: str = ""
    tags: str = ""

    @property
    def runs_scripts(self) -> bool:
        """Whether a browser that can run the beacon could send it: they all begin like this."""
        return self.text.startswith("Mozilla/5.0 (") and "gecko" in self.text.lower()


def people() -> list[Row]:
    """Browsers and devices."""
    return list(_rows("people.tsv.xz"))


def agents() -> list[Row]:
    """What the sources call crawlers."""
    return list(_rows("agents.tsv.xz"))


def crawlers(rows: Iterable[Row]) -> list[Row]:
    """Those that are crawlers in two of the three lists that the collector does not use."""
    return [row for row in rows if len(_OTHER_LISTS & set(row.called)) > 1]


def ai_agents() -> list[Row]:
    """The AI agents: crawler-user-agents's, and those that `ai_agents.tsv` adds."""
    listed = [row for row in agents() if "ai-crawler" in row.tags]
    return listed + list(_own("ai_agents.tsv"))


def mistaken_people() -> list[Row]:
    """People that crawlerdetect's list mistakes for crawlers, by family."""
    return list(_own("families.tsv"))


def _own(name: str) -> Iterator[Row]:
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            called, family, text = line.split("\t")
            yield Row(text, called, name, family)


def _rows(name: str) -> Iterator[Row]:
    with lzma.open(FOLDER / name, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            called, source, family, tags, text = line.rstrip("\n").split("\t")
            yield Row(text, called, source, family, tags)
