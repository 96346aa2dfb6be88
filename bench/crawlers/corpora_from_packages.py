"""`python -m bench.crawlers.corpora_from_packages`: makes corpora/ anew.

It needs npm, node, pip and PyYAML.

The packages' texts, with what each list says of each: crawlerdetect and isbot of people, and
crawler-user-agents and node-device-detector of agents, too; of the second
hold-out and those after it all of them and uap-core. What node-device-detector's expressions
are is not kept, only what they say.
"""

import argparse
import json
import lzma
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.crawlers import corpora, corpora_later, corpora_second, corpora_third, corpora_unseen
from bench.crawlers.corpora import FOLDER, LISTS, VERSIONS, own_texts

_OF_PIP = {
    name
    for name, origin in (corpora_unseen.PACKAGES | corpora_third.PACKAGES).items()
    if origin == "pip"
}
# One Android program sent its owner's address: not ours to pass on.
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w+")
# A crawler's says whom to ask about it; where that is a mailbox that a person has for nothing, too.
_PRIVATE = re.compile(
    r"@(?:hotmail|gmail|163|gmx|sohu|bigfoot|yahoo|aol|msn|web|post|canada|netluchs|rambler|mail)\."
)
_JUDGE = """
const fs = require("fs"), folder = process.argv[1];
const {isbot} = require(folder + "/isbot/index.js");
const listed = JSON.parse(fs.readFileSync(folder + "/crawler-user-agents/crawler-user-agents.json"))
  .map(row => new RegExp(row.pattern));
const Bots = require(folder + "/node-device-detector/parser/bot-abstract-parser.js");
const bots = new Bots();
for (const line of fs.readFileSync(folder + "/texts", "utf8").split("\\n").slice(0, -1)) {
  const [text, isPerson] = JSON.parse(line);
  console.log((isbot(text) ? "i" : "")
    + (!isPerson && listed.some(one => one.test(text)) ? "m" : "")
    + (!isPerson && bots.parse(text, {}) ? "d" : ""));
}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.crawlers.corpora_from_packages",
        description="Makes corpora/ from the packages that it names. Takes some minutes.",
    )
    parser.add_argument(
        "--debian", metavar="URL", required=True, help="the archive, as in /etc/apt/sources.list"
    )
    mirror = parser.parse_args().debian.rstrip("/")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for package, version in VERSIONS.items():
            print(f"fetching {package} {version}", file=sys.stderr)
            _fetch(folder, package, version)
        corpora_second.fetch(folder, mirror)
        corpora_later.fetch(folder, mirror)
        people, agents = _people(folder), _agents(folder)
        own = [row.text for row in own_texts()]
        unseen_agents = corpora_unseen.agents(folder, {*agents, *own, *people})
        unseen_people = corpora_unseen.people(folder, {*people, *own, *agents, *unseen_agents})
        print("asking the lists", file=sys.stderr)
        is_person = dict.fromkeys([*people, *unseen_people], True)
        is_person |= dict.fromkeys([*agents, *own, *unseen_agents], False)
        said = _verdicts(folder, is_person)
        second = corpora_second.texts(folder)
        _write_hold_out(folder, "second", second, is_person)
        _write_hold_out(folder, "third", corpora_third.texts(folder), {*is_person, *second})
        _write(
            "people.tsv.xz",
            (f"{said[text]}\t{source}\t\t\t{text}" for text, source in people.items()),
        )
        _write("agents.tsv.xz", (f"{said[text]}\t{row}\t{text}" for text, row in agents.items()))
        for name, rows in (("unseen_agents", unseen_agents), ("unseen_people", unseen_people)):
            _write(f"{name}.tsv.xz", (f"{said[text]}\t{row}\t{text}" for text, row in rows.items()))
        _write("own.tsv.xz", (f"{said[text]}\t{text}" for text in own))
        known = corpora.texts_of_the_first_three()
        for name in ("fourth", "fifth"):
            _write_hold_out(folder, name, corpora_later.texts(folder, name), known)
    return 0


def _write_hold_out(
    folder: Path, name: str, found: Mapping[str, tuple[str, str]], known: Collection[str]
) -> None:
    """The later ones: every list is asked, and a source that names a crawler is one."""
    is_spiders = corpora_second.spiders(folder)
    said = {
        text: letters
        + ("u" if is_spiders(text) else "")
        + ("s" if found[text][1] == "crawler" and found[text][0] != "uap-core" else "")
        for text, letters in _verdicts(folder, dict.fromkeys(found, False)).items()
    }
    agents, people = corpora_second.rows(found, said, known)
    later = name in ("fourth", "fifth")
    _write(f"{name}_agents.tsv.xz", (row for row in agents if not (later and _PRIVATE.search(row))))
    _write(f"{name}_people.tsv.xz", (row for row in people if not _MAIL.search(row)))


def _fetch(folder: Path, package: str, version: str) -> None:
    target = folder / package
    target.mkdir()
    if package == "crawlerdetect" or package in _OF_PIP:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
        command += ["-d", str(target), f"{package}=={version}"]
    else:
        command = ["npm", "pack", "--pack-destination", str(target), f"{package}@{version}"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    (archive,) = target.iterdir()
    unpack = ["tar", "xzf", str(archive), "-C", str(target), "--strip-components=1"]
    subprocess.run(unpack, check=True)


def _people(folder: Path) -> dict[str, str]:
    """Each text with its source."""
    fixtures = folder / "crawlerdetect/tests/fixtures/user_agent/devices.txt"
    found = dict.fromkeys(_lines(fixtures), "crawlerdetect")
    for row in json.loads((folder / "user-agents/dist/user-agents.json").read_text()):
        found[row["userAgent"]] = "user-agents"
    for text in json.loads((folder / "top-user-agents/src/index.json").read_text()):
        found[text] = "top-user-agents"
    return found


def _agents(folder: Path) -> dict[str, str]:
    """Each text with its source, the agent and what it is for, tab-separated."""
    fixtures = folder / "crawlerdetect/tests/fixtures/user_agent/crawlers.txt"
    found = dict.fromkeys(_lines(fixtures), "crawlerdetect\t\t")
    listed = folder / "crawler-user-agents/crawler-user-agents.json"
    for row in json.loads(listed.read_text()):
        name, tags = row["pattern"].lower(), ",".join(row.get("tags", ()))
        plain = [row["pattern"]] if re.fullmatch(r"[\w-]+", row["pattern"]) else []
        for text in row["instances"] or plain:
            if "\n" not in text and "\t" not in text:
                found[text.strip()] = f"crawler-user-agents\t{name}\t{tags}"
    return found


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().split("\n") if line.strip()]


def _verdicts(folder: Path, is_person: Mapping[str, bool]) -> Mapping[str, str]:
    """The letters of the lists that call each text a crawler's."""
    every = list(is_person)
    (folder / "texts").write_text("".join(json.dumps(each) + "\n" for each in is_person.items()))
    node = ["node", "-e", _JUDGE, str(folder)]
    judged = subprocess.run(node, check=True, capture_output=True, text=True).stdout.split("\n")[
        :-1
    ]
    with ProcessPoolExecutor() as pool:
        stock = pool.map(_stock_says, every, chunksize=1000)
        return {
            text: ("c" if is_crawler else "") + rest
            for text, is_crawler, rest in zip(every, stock, judged, strict=True)
        }


def _stock_says(text: str) -> bool:
    from crawlerdetect import CrawlerDetect  # noqa: PLC0415 - in each process of its own

    return bool(CrawlerDetect().is_crawler(text))


def _write(name: str, rows: Iterable[str]) -> None:
    head = f"# Made by corpora_from_packages.py; letters: {LISTS}; README.md has the sources.\n"
    with lzma.open(FOLDER / name, "wt", encoding="utf-8", preset=9) as file:
        file.write(head)
        file.writelines(row + "\n" for row in rows)
    print(f"wrote {FOLDER / name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
