"""Patterns of crawlers that crawlerdetect's list lacks, and which kind of crawler each shows.

They are regular expressions in lower case for `pattern_tree`. Begin each with a letter: one that
begins with a class makes all of them slow. More of them are in `names`.
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
# What crawlers do. Many are isbot's words, those that match no browser of the corpus.
_JOBS = (
    "abuse",
    "archive",
    "audit",
    "check(er|$|[ /;)_-])",
    "cloudflare",
    "favicon",
    "feed(?<!buzzfeed)",
    "harvest",
    "indexer",
    "insight",
    "( |-)image ?proxy",
    "( |-)link ?proxy",
    "( |-)url ?proxy",
    "imageproxy",
    "link-?check",
    "monitor",
    "(page|link|url)[ -]?preview",
    "preview(er|bot|-tool)",
    "-radar(?<!htc-radar)",
    "parser",
    "prefetch proxy",
    "rss($|[ /;)-])",
    "scan(?<!camscan)(?!pal|ia)",
    "-screenshot$",
    "scrap(er|ing|e[ /])",
    "searchengine",
    "security-(center|research)",
    "seo(lyt|[ -]?(tool|check|bot|analy))",
    "unfurl",
    "webhook",
    # Whose it is.
    *(f"\\.{domain}/v?\\d(?<!mail\\.com/\\d)" for domain in _DOMAINS),
    "\\.de/v?\\d(?<!web\\.de/\\d)",  # WEB.DE gives a browser to its readers
    "watch(er/|agent)",
    "( |-)api($|/| (?!\\d))",
    "com agent\\)",
    "^[a-z]*search(er[a-z]*)?($|[ /])",
    "( |-)proxy\\)",
    "-snapshot",
    "( |-)tools($|[ /;)])",
    "lookup",
    "crawler",
    "spider[/;)]",
    "<script>",
    "user agent[;)](?<=; user agent.)",
    "useragent;(?<=; useragent;)",
    "^useragent: ",
    "^<",
    "chtml proxy",
    "splash version",
    "dlc/\\d",
    "geckobot",
    # What attacks: it is no name at all.
    "0day|botnet|h4ck|r00t|pwned",
    "\\$\\{|\\{\\{|jndi:",
    # A system that is none, a time that no browser tells; a browser's words, misspelt.
    "x11; windows",
    "time/\\d{13}$",
    "mozlila|bulid/|moblie|mozila/|khtml, ?link gecko",
)
_CRAWLER = (
    # It says that it is compatible with what it names.
    "gecko[;)]? ?;? ?compatible; ",
    # It has something to add where browsers say what their engine is like.
    "khtml, like gecko[;,] ?(?!safari|version|gzip|googleweblight|chrom|mobile|hevc)[a-z]",
    "firefox mutant",
    "^mozilla/5\\.0(,|/[a-z]+/\\d)",
    "^mozilla/[45]\\.0 ?\\(compatible\\);",
    # Names.
    "hotjar",
    "sindup/",
    "ps_daily/",
    "criticalcss",
    "bw/1\\.\\d; ",
    "daumoa",
)


# A page within an app: Android's WebView, Electron, a television's, and iOS's, which does not name
# Safari; or the app itself, by the name of its telephone's system.
_IN_APP = re.compile(
    r"; wv\)|\belectron/|\bhbbtv/|like mac os x\) applewebkit/(?!.* (?:safari/|\(compatible))"
    r"|^(?!mozilla/).*\bandroid\b"
)


# `SomeSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid Mozilla/5.0 (iPhone; …) … Safari/604.1`: an app that
# shows pages in its telephone's browser, and puts its own and its toolkit's names in front.
_APP_FIRST = re.compile(
    r"(?!mozilla/)[^/]+/\d.* mozilla/5\.0 "
    r"\((?:iphone|ipad|ipod|linux; (?:u; )?android)[^)]*\) "
    r"applewebkit/[\d.]+ \(khtml, like gecko\) .*\b(?:safari|mobile)/"
)

# Most browsers send these, and no pattern is in them. They are removed first, which saves time.
_COMMONPLACES = ("applewebkit/537.36 (", "safari/537.36", "android")


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
        """The kind of crawler that sends this text, in lower case; None: no pattern matches."""
        rest = text
        for commonplace in _COMMONPLACES:
            rest = rest.replace(commonplace, "\0")
        if not self._any.finds(rest):
            return None
        for reason, patterns in self._kinds.items():
            if patterns.finds(rest):
                return reason
        if _APP_FIRST.match(text):
            return None
        # Only words for what programs do are left. In an app, they are the app's name.
        return None if _IN_APP.search(text) else Reason.CRAWLER
