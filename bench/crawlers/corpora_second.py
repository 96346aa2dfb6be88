"""The second hold-out: User-Agents of sources that are in none of the other corpora.

Drawn by `corpora_from_packages`. None of the sources says of every text what it is, so the
lists do: an agent is one that two call a crawler's, a person's is a device or a browser that a
source names, and no list doubts (of a device with its maker: at most one).
"""

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

# Debian's binary packages: the older has resources that the newer left out.
_POOL = "pool/main"
_ARCHIVES = {
    "uap-core": "u/uap-core/uap-core_0.18.0-1_all.deb",
    "uap-core-0.16": "u/uap-core/uap-core_0.16.0-1_all.deb",
    "mssola-user-agent": (
        "g/golang-github-mssola-user-agent/golang-github-mssola-user-agent_0.5.1.orig.tar.xz"
    ),
}
_SHARE = "usr/share/uap-core"
_QUOTED = r"(['\"])((?:(?!\1).)+)\1"
_EXPRESS = re.compile(r"var (?:source|s) = " + _QUOTED)
_MSSOLA = re.compile(r'\bua:\s+"((?:[^"\\]|\\.)+)",\s+expected: "[^"]*\bBot:true')
_NAMED = re.compile(r"compatible; ?(?!msie)([a-z][a-z_-]{2,})")
_FIRST = re.compile(r"(?!mozilla|opera)([a-z][a-z_-]{2,})")
_SPIDER = "Spider"
_NO_NAMES = ("Other", _SPIDER)
_NAMED_BY_SOURCE = ("device", "visitor")
_NEEDED = 2


def fetch(folder: Path, mirror: str) -> None:
    """Debian's archives, unpacked, from a mirror's URL. Needs dpkg-deb and tar."""
    for name, path in _ARCHIVES.items():
        target = folder / name
        target.mkdir()
        archive = target.with_suffix(".archive")
        download(f"{mirror}/{_POOL}/{path}", archive)
        unpack = ["dpkg-deb", "-x", str(archive), str(target)]
        if path.endswith(".tar.xz"):
            unpack = ["tar", "xJf", str(archive), "-C", str(target), "--strip-components=1"]
        subprocess.run(unpack, check=True)


def download(url: str, to: Path) -> None:
    """Writes what is at a URL to a file."""
    with urllib.request.urlopen(url) as response:  # noqa: S310 - who runs it says
        to.write_bytes(response.read())


def texts(folder: Path) -> dict[str, tuple[str, str]]:
    """Each text with its source and what that calls it: `crawler`, `device`, `browser` or ``."""
    found: dict[str, tuple[str, str]] = {}
    for source, kind, untrimmed in _texts(folder):
        text = str(untrimmed).strip()
        if text and not re.search(r"[\t\r\n\x85\u2028]", text):
            known = found.setdefault(text, (source, kind))
            if kind == "crawler" and known[1] != "crawler":
                found[text] = (source, kind)
    return found


def _texts(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each text's source, what that calls it, and the text."""
    yield from _texts_of_uap_core(folder)
    tests = folder / "express-useragent/test/bots.test.js"
    for test in tests.read_text(encoding="utf-8").split("test.done")[:-1]:
        match = _EXPRESS.search(test)
        if match:
            kind = "crawler" if "test.ok(userAgent.isBot" in test else ""
            yield "express-useragent", kind, match[2]
    for text in json.loads((folder / "bot-detector/botlist.json").read_text()):
        yield "user-agents.org", "", text
    for text in _MSSOLA.findall((folder / "mssola-user-agent/all_test.go").read_text()):
        yield "mssola", "crawler", text


def _texts_of_uap_core(folder: Path) -> Iterator[tuple[str, str, str]]:
    newer, older = folder / "uap-core" / _SHARE, folder / "uap-core-0.16" / _SHARE
    for row in _cases(newer / "tests/test_device.yaml"):
        device = row["family"]
        kind = "crawler" if device == _SPIDER else "device" if row.get("brand") else ""
        yield "uap-core", kind, row["user_agent_string"]
    for path in (newer / "tests/test_ua.yaml", newer / "tests/test_os.yaml"):
        for row in _cases(path):
            yield "uap-core", "", row["user_agent_string"]
    for path in sorted((older / "test_resources").glob("*.yaml")):
        if not path.stem.endswith("-orig"):
            is_of_browsers = re.match("firefox|opera|pgts", path.stem) is not None
            for row in _cases(path):
                kind = "browser" if is_of_browsers and row["family"] not in _NO_NAMES else ""
                yield "uap-core", kind, row["user_agent_string"]


def spiders(folder: Path) -> Callable[[str], bool]:
    """What uap-core's expressions call a spider's."""
    loaded = _yaml(folder / "uap-core" / _SHARE / "regexes.yaml")["device_parsers"]
    parsers = [
        (
            re.compile(row["regex"], re.IGNORECASE if row.get("regex_flag") == "i" else 0),
            bool(row.get("device_replacement") == _SPIDER),
        )
        for row in loaded
    ]
    last = max(at for at, (_, is_spiders) in enumerate(parsers) if is_spiders)

    def says(text: str) -> bool:
        first = (is_spiders for parser, is_spiders in parsers[: last + 1] if parser.search(text))
        return next(first, False)

    return says


def rows(
    found: Mapping[str, tuple[str, str]], said: Mapping[str, str], known: Collection[str]
) -> tuple[list[str], list[str]]:
    """The lines of agents and of people; those of agents that other corpora have say `known`."""
    agents, people = [], []
    for text, (source, kind) in found.items():
        lists = set(said[text]) - {"c"}
        row = f"{said[text]}\t{source}\t{name(text)}\t"
        if len(lists) >= _NEEDED:
            agents.append(f"{row}{'known' if text in known else 'new'}\t{text}")
        elif text not in known and (kind in _NAMED_BY_SOURCE or (kind == "browser" and not lists)):
            people.append(f"{row}{kind}\t{text}")
    return agents, people


def name(text: str) -> str:
    """What an agent seems to be called, by which the hold-out is halved; "" if nothing tells."""
    low = text.lower()
    match = _NAMED.search(low) or _FIRST.match(low)
    return match[1] if match else ""


def _cases(path: Path) -> Iterator[dict[str, Any]]:
    return iter(_yaml(path)["test_cases"])


def _yaml(path: Path) -> dict[str, Any]:
    yaml = import_module("yaml")  # PyYAML, which only this needs
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open(encoding="utf-8") as file:
        return cast("dict[str, Any]", yaml.load(file, loader))
