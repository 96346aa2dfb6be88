"""The fourth and the fifth hold-out, of packages that are in none of the other corpora.

Drawn by `corpora_from_packages`, whole, with the texts that the other corpora have. What a
source calls a text counts as one more list, and only where agents are counted by two of five.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

from bench.crawlers.corpora_second import download

_AGENTS = "crawler"
_VISITORS = "visitor"
# npm's; an earlier version of the isbot that is asked, which was seen only after it was judged.
_ISBOT_2 = "isbot@2.2.1"
# Debian's archives of sources.
_POOL = "pool/main"
_DEBIAN = {
    "http-browserdetect": (
        "libh/libhttp-browserdetect-perl/libhttp-browserdetect-perl_3.45.orig.tar.gz"
    ),
    "parse-http-useragent": (
        "libp/libparse-http-useragent-perl/libparse-http-useragent-perl_0.43.orig.tar.gz"
    ),
    "ruby-browser": "r/ruby-browser/ruby-browser_6.2.0.orig.tar.gz",
}
_PARTS = ("browser", "cpu", "device", "engine", "mediaplayer", "os")

Found = Iterator[tuple[str, str, str]]
"""Each text's source, what that calls it, and the text."""


def fetch(folder: Path, mirror: str) -> None:
    """Debian's archives, from a mirror's URL, and isbot 2, unpacked. Needs npm and tar."""
    target = folder / "isbot-2"
    target.mkdir()
    command = ["npm", "pack", "--pack-destination", str(target), _ISBOT_2]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    (archive,) = target.iterdir()
    _unpack(archive, target)
    for name, path in _DEBIAN.items():
        target = folder / name
        target.mkdir()
        archive = target / "archive"
        download(f"{mirror}/{_POOL}/{path}", archive)
        _unpack(archive, target)


def _unpack(archive: Path, target: Path) -> None:
    unpack = ["tar", "xzf", str(archive), "-C", str(target), "--strip-components=1"]
    subprocess.run(unpack, check=True)


def texts(folder: Path, hold_out: str) -> dict[str, tuple[str, str]]:
    """Each text of `fourth` or `fifth` with its source and what that calls it.

    That is `crawler`, `visitor` or ``: nothing.
    """
    sources: dict[str, tuple[Callable[[Path], Found], ...]] = {
        "fourth": (_browserdetect, _parse, _ruby_browser, _top, _ua_parser_js, _ua_device),
        "fifth": (_isbot_2,),
    }
    found: dict[str, tuple[str, str]] = {}
    for read in sources[hold_out]:
        for source, kind, untrimmed in read(folder):
            text = untrimmed.strip()
            if text and not re.search(r"[\t\r\n\x85\u2028]", text):
                found.setdefault(text, (source, kind))
    return found


def _browserdetect(folder: Path) -> Found:
    for name in ("useragents", "more-useragents"):
        path = folder / f"http-browserdetect/t/{name}.json"
        for text, said in json.loads(path.read_text(encoding="utf-8")).items():
            kind = _AGENTS if said.get("robot") else _VISITORS if said.get("browser") else ""
            yield "http-browserdetect", kind, text


def _parse(folder: Path) -> Found:
    data = folder / "parse-http-useragent/t/data"
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        kind = {"robot": _AGENTS, "desktop": _VISITORS, "mobile": _VISITORS}.get(
            path.relative_to(data).parts[0], ""
        )
        for record in path.read_text(encoding="utf-8", errors="replace").split("[AGENT]"):
            lines = (line for line in record.split("\n") if line.strip())
            first = next((line for line in lines if not line.startswith("#")), "")
            yield "parse-http-useragent", kind, first


def _ruby_browser(folder: Path) -> Found:
    yaml = import_module("yaml")  # PyYAML, which only this needs
    for name, kind in (("ua_bots", _AGENTS), ("ua", _VISITORS)):
        path = folder / f"ruby-browser/test/{name}.yml"
        loaded = cast("dict[str, str]", yaml.safe_load(path.read_text(encoding="utf-8")))
        for text in loaded.values():
            yield "ruby-browser", kind, text


def _top(folder: Path) -> Found:
    for text in json.loads((folder / "top-crawler-agents/index.json").read_text()):
        yield "top-crawler-agents", _AGENTS, text


def _ua_parser_js(folder: Path) -> Found:
    for part in _PARTS:
        for row in json.loads((folder / f"ua-parser-js/test/{part}-test.json").read_text()):
            yield "ua-parser-js", _VISITORS if part == "browser" else "", row["ua"]


def _ua_device(folder: Path) -> Found:
    for name in ("test.txt", "test/test_input"):
        for text in _lines(folder / "ua-device" / name):
            yield "ua-device", "", text


def _isbot_2(folder: Path) -> Found:
    for name, kind in (("crawlers", _AGENTS), ("browsers", _VISITORS)):
        for text in _lines(folder / f"isbot-2/{name}.txt"):
            yield "isbot-2", kind, text


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split("\n")
