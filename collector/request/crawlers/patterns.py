"""Patterns of crawlers that crawlerdetect's list lacks, and the reason that each shows.

They are regular expressions in lower case for `pattern_tree`. A pattern should begin with a letter:
one that begins with a character class makes all of them slow. Most of them are in `names`.
"""

import re
from collections.abc import Mapping, Sequence

from collector.request.crawlers.names import (
    AI_AGENTS,
    HEADLESS,
    HTTP_LIBRARIES,
    JOBS,
    MONITORS,
    TOOLS,
)
from collector.request.crawlers.pattern_tree import SearchTree
from collector.request.crawlers.reason import Reason

_DOMAINS = (
    *("com", "io", "org", "net", "ai", "fr", "eu", "dev", "app", "ru", "win", "uk", "pl", "nl"),
    "info",
)
# More words for what programs do: a domain before a version, and misspelt words of browsers.
_JOBS = (
    *(f"\\.{domain}/v?\\d(?<!mail\\.com/\\d)" for domain in _DOMAINS),
    "\\.de/v?\\d(?<!web\\.de/\\d)",  # WEB.DE makes a browser
    "mozlila|bulid/|moblie|mozila/|khtml, ?link gecko",
)
_CRAWLER = (
    "gecko[;)]? ?;? ?compatible; ",
    # More words where a browser says what its engine is like.
    "khtml, like gecko[;,] ?(?!safari|version|gzip|googleweblight|chrom|mobile|hevc)[a-z]",
    "firefox mutant",
    "^mozilla/5\\.0(,|/[a-z]+/\\d)",
    "^mozilla/[45]\\.0 ?\\(compatible\\);",
)


# A page within an app: Android's WebView, Electron, televisions, and iOS (without the name Safari).
# Or an app that names Android instead of a browser.
_IN_APP = re.compile(
    r"; wv\)|\belectron/|\bhbbtv/|like mac os x\) applewebkit/(?!.* (?:safari/|\(compatible))"
    r"|^(?!mozilla/).*\bandroid\b"
)


# `SomeSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid Mozilla/5.0 (iPhone; …) … Safari/604.1`: an app that
# shows pages in the telephone's browser, and adds its own names in front.
_APP_FIRST = re.compile(
    r"(?!mozilla/)[^/]+/\d.* mozilla/5\.0 "
    r"\((?:iphone|ipad|ipod|linux; (?:u; )?android)[^)]*\) "
    r"applewebkit/[\d.]+ \(khtml, like gecko\) .*\b(?:safari|mobile)/"
)

# Most browsers send these, and no pattern matches in them. Removing them first saves time.
_COMMON = ("applewebkit/537.36 (", "safari/537.36", "android")


class Patterns:
    """Recognises crawlers by our own patterns."""

    def __init__(self) -> None:
        kinds: Mapping[Reason, Sequence[str]] = {
            Reason.AI_AGENT: AI_AGENTS.split(", "),
            Reason.MONITOR: MONITORS.split(", "),
            Reason.HEADLESS: HEADLESS.split(", "),
            Reason.HTTP_LIBRARY: HTTP_LIBRARIES.split(", "),
            Reason.CRAWLER: (*_CRAWLER, *TOOLS.split(", ")),
        }
        self._kinds = {reason: SearchTree(patterns) for reason, patterns in kinds.items()}
        of_all_kinds = (pattern for patterns in kinds.values() for pattern in patterns)
        self._any = SearchTree((*_JOBS, *JOBS.split(", "), *of_all_kinds))

    def reason(self, text: str) -> Reason | None:
        """Why this User-Agent, in lower case, is a crawler's; None: no pattern matches."""
        rest = text
        for common in _COMMON:
            rest = rest.replace(common, "\0")
        if not self._any.finds(rest):
            return None
        for reason, patterns in self._kinds.items():
            if patterns.finds(rest):
                return reason
        if _APP_FIRST.match(text):
            return None
        # Only a word for what programs do has matched. In an app, it is part of the app's name.
        return None if _IN_APP.search(text) else Reason.CRAWLER
