"""The hold-out: User-Agents of packages that nobody looked at while the signs were written.

Drawn by `corpora_from_packages`, without those that the other corpora have. An agent is `new`
where none of their texts has its name either.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

# Packages, with where they are from.
PACKAGES = {"device-detector": "pip", "fake-useragent": "pip", "woothee": "npm"}
_UPSTREAM = "device-detector/device_detector/tests/fixtures/upstream"
_TESTSETS = "woothee/woothee/testsets"
_PEOPLE_OF_WOOTHEE = re.compile(r"appliance|mobilephone|pc_|smartphone")
_KIND = re.compile(r"(bot|crawler|spider)$")
_SHORTEST_NAME = 4
_NO_NAMES = ("generic bot", "misc crawler")  # of those whose name the package does not know


def people(folder: Path, known: Collection[str]) -> dict[str, str]:
    """Each browser's text with its source, nothing, and its name, tab-separated."""
    found: dict[str, str] = {}
    for path in sorted((folder / _UPSTREAM).glob("*.yml")):
        for row in _yaml(path):
            client = row.get("client")
            if isinstance(client, dict) and client.get("type") == "browser":
                _add(found, known, row["user_agent"], "device-detector", "", client["name"])
    for line in (folder / "fake-useragent/src/fake_useragent/data/browsers.jsonl").open():
        row = json.loads(line)
        _add(found, known, row["useragent"], "fake-useragent", "", row["browser"])
    for path in sorted((folder / _TESTSETS).glob("*.yaml")):
        if _PEOPLE_OF_WOOTHEE.match(path.stem):
            for row in _yaml(path):
                _add(found, known, row["target"], "woothee", "", row["name"])
    return found


def agents(folder: Path, known: Collection[str]) -> dict[str, str]:
    """Each agent's text with its source, the agent and what it is for, tab-separated."""
    said = "\n".join(map(_plain, known))
    found: dict[str, str] = {}
    for row in _yaml(folder / _UPSTREAM / "bots.yml"):
        bot = row["bot"]
        _agent(found, known, said, row["user_agent"], "device-detector", bot)
    for path in sorted((folder / _TESTSETS).glob("crawler*.yaml")):
        for row in _yaml(path):
            _agent(found, known, said, row["target"], "woothee", row)
    return found


def _agent(
    found: dict[str, str],
    known: Collection[str],
    said: str,
    text: str,
    source: str,
    row: Mapping[str, Any],
) -> None:
    name = _KIND.sub("", _plain(row["name"]))
    is_new = len(name) >= _SHORTEST_NAME and name not in said
    called = "" if row["name"].lower() in _NO_NAMES else row["name"]
    kind = str(row.get("category") or "").lower().replace(" ", "-")
    _add(found, known, text, source, called, f"{'new' if is_new else 'known'},{kind}")


def _add(
    found: dict[str, str], known: Collection[str], text: str, source: str, name: str, tags: str
) -> None:
    text = str(text).strip()
    if text and text not in known and not re.search(r"[\t\r\n\x85\u2028]", text):
        found.setdefault(text, f"{source}\t{str(name).lower()}\t{str(tags).lower()}")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _yaml(path: Path) -> Iterator[dict[str, Any]]:
    yaml = import_module("yaml")  # PyYAML, which only this needs
    return iter(cast("list[dict[str, Any]]", yaml.safe_load(path.read_text(encoding="utf-8"))))
