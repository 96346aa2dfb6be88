"""The third hold-out, of two packages that are in none of the other corpora.

They say themselves what each text is, so each counts as one more list. Drawn by
`bench.crawlers.corpora_from_packages`.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

# Packages, with where they are from.
PACKAGES = {"random-user-agent": "pip", "random-useragent": "npm"}
_AGENTS = "crawler"
_VISITORS = "visitor"
_FOLDERS = ("spiders", "bots", "validators")
_ONE_IN = 16  # of 322,000 browsers


def texts(folder: Path) -> dict[str, tuple[str, str]]:
    """Each text with its source and what that calls it: `crawler`, `visitor` or ``."""
    found: dict[str, tuple[str, str]] = {}
    for source, kind, untrimmed in (*_whatismybrowser(folder), *_techpatterns(folder)):
        text = untrimmed.strip()
        if text and not set(text) & set("\t\r\n\x85\u2028"):
            found.setdefault(text, (source, kind))
    return found


def _whatismybrowser(folder: Path) -> Iterator[tuple[str, str, str]]:
    archive = folder / "random-user-agent/random_user_agent/data/user_agents.zip"
    with zipfile.ZipFile(archive) as opened, opened.open("user_agents.jl") as lines:
        for line in lines:
            row = json.loads(line)
            text, kind = row["user_agent"], row["software_type"]
            if kind.startswith("bot"):
                yield "random-user-agent", _AGENTS, text
            elif not kind.startswith("browser"):
                yield "random-user-agent", "", text
            elif hashlib.sha256(text.encode()).digest()[0] % _ONE_IN == 0:
                yield "random-user-agent", _VISITORS, text


def _techpatterns(folder: Path) -> Iterator[tuple[str, str, str]]:
    for row in json.loads((folder / "random-useragent/useragent-data.json").read_text()):
        called = row["folder"].lower()
        kind = _AGENTS if any(word in called for word in _FOLDERS) else ""
        is_visitors = (
            called.startswith(("/browsers", "/mobile devices")) and "console" not in called
        )
        yield "random-useragent", _VISITORS if is_visitors else kind, row["userAgent"]
