"""User-Agents of people and of crawlers, with what several lists say of each.

README.md has the sources and licences; `bench/corpora_from_packages.py` makes the files.
"""

import hashlib
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
VERSIONS = {
    "crawlerdetect": "0.4.2",
    "crawler-user-agents": "1.60.0",
    "isbot": "5.2.3",
    "node-device-detector": "2.2.7",
    "top-user-agents": "2.1.138",
    "user-agents": "2.1.198",
    "device-detector": "6.5.1",
    "fake-useragent": "2.2.0",
    "woothee": "1.11.1",
    "bot-detector": "1.0.10",
    "express-useragent": "1.0.15",
    "random-user-agent": "1.0.1",
    "random-useragent": "0.5.0",
    "top-crawler-agents": "1.0.35",
    "ua-parser-js": "0.7.28",
    "ua-device": "0.1.10",
}
LISTS = {
    "c": "crawlerdetect",
    "i": "isbot",
    "m": "crawler-user-agents",
    "d": "node-device-detector",
    "u": "uap-core",
    "s": "the source, which is a list too",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A User-Agent, with the letters of `LISTS` that call it a crawler's."""

    text: str
    called: str
    source: str
    family: str = ""
    tags: str = ""

    @property
    def is_held_out(self) -> bool:
        """Whether it is of the half that judged last. Versions of one agent are in one half."""
        family = self.family or re.sub(r"[\d.]+", "", self.text.lower())
        return hashlib.sha256(family.encode()).digest()[0] % 2 == 1


def people() -> list[Row]:
    """Browsers, and the devices that crawlerdetect's own tests have."""
    return list(_rows("people.tsv.xz"))


def agents() -> list[Row]:
    """What crawlerdetect's own tests and crawler-user-agents have of crawlers."""
    return list(_rows("agents.tsv.xz"))


def ai_agents() -> list[Row]:
    """The AI agents: crawler-user-agents's, and those that `ai_agents.tsv` adds."""
    listed = [row for row in agents() if "ai-crawler" in row.tags]
    return listed + [row for row in _own() if row.source == "ai_agents"]


def unseen_people() -> list[Row]:
    """Browsers of the hold-out: see README.md for who looked at what, and when."""
    return list(_rows("unseen_people.tsv.xz"))


def unseen_agents() -> list[Row]:
    """Agents of the hold-out; `new` among their tags: no other corpus has the agent's name."""
    return list(_rows("unseen_agents.tsv.xz"))


def second_people() -> list[Row]:
    """Devices and browsers of the second hold-out."""
    return list(_rows("second_people.tsv.xz"))


def second_agents() -> list[Row]:
    """Agents of the second hold-out, by two lists or more; `new` where no other corpus has one."""
    return list(_rows("second_agents.tsv.xz"))


def third_people() -> list[Row]:
    """Browsers of the third hold-out."""
    return list(_rows("third_people.tsv.xz"))


def third_agents() -> list[Row]:
    """Agents of the third hold-out, as `second_agents`."""
    return list(_rows("third_agents.tsv.xz"))


def fourth_people() -> list[Row]:
    """Browsers of the fourth hold-out."""
    return list(_rows("fourth_people.tsv.xz"))


def fourth_agents() -> list[Row]:
    """Agents of the fourth hold-out, as `second_agents`."""
    return list(_rows("fourth_agents.tsv.xz"))


def fifth_people() -> list[Row]:
    """Browsers of the fifth hold-out."""
    return list(_rows("fifth_people.tsv.xz"))


def fifth_agents() -> list[Row]:
    """Agents of the fifth hold-out, as `second_agents`."""
    return list(_rows("fifth_agents.tsv.xz"))


def texts_of_the_first_three() -> set[str]:
    """What the older corpora and the first three hold-outs have: known to those after them."""
    older = (people(), agents(), unseen_people(), unseen_agents(), mistaken_people(), ai_agents())
    drawn = (second_people(), second_agents(), third_people(), third_agents())
    return {row.text for rows in (*older, *drawn) for row in rows}


def later_hold_outs() -> dict[str, tuple[list[Row], list[Row]]]:
    """The people and the agents of those that have known texts, too, by name."""
    return {
        "second": (second_people(), second_agents()),
        "third": (third_people(), third_agents()),
        "fourth": (fourth_people(), fourth_agents()),
        "fifth": (fifth_people(), fifth_agents()),
    }


def judgements() -> list[list[str]]:
    """What was found before anybody had looked: round, what, of how many, and by whom."""
    lines = (FOLDER / "judgements.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def mistaken_people() -> list[Row]:
    """People whom crawlerdetect's list takes for crawlers, by family."""
    return [row for row in _own() if row.source == "families"]


def own_texts() -> list[Row]:
    """The rows of the two lists of our own, without what the lists say."""
    return [
        Row(text, "", source, family)
        for source in ("families", "ai_agents")
        for line in (FOLDER / f"{source}.tsv").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
        for family, text in [line.split("\t")]
    ]


def _own() -> list[Row]:
    said = {}
    for line in _lines("own.tsv.xz"):
        called, text = line.split("\t")
        said[text] = called
    return [Row(row.text, said[row.text], row.source, row.family) for row in own_texts()]


def _rows(name: str) -> Iterator[Row]:
    for line in _lines(name):
        called, source, family, tags, text = line.split("\t")
        yield Row(text, called, source, family, tags)


def _lines(name: str) -> Iterator[str]:
    with lzma.open(FOLDER / name, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            if not line.startswith("#"):
                yield line.rstrip("\n")
