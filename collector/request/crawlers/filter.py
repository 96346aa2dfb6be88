"""Decides whether a request is a crawler's or a person's, and caches these verdicts."""

import re

from collector.request.crawlers.exceptions import without_known_mistakes
from collector.request.crawlers.listed import CrawlerList, fold
from collector.request.crawlers.patterns import Patterns
from collector.request.crawlers.reason import Reason
from collector.request.headers import Headers
from contract.errors import Ignore
from contract.identity import USER_AGENT_MAX_BYTES

# The visitor's hash uses the same part of it. The longest known User-Agent of a browser has 681
# characters.
EXAMINED = USER_AGENT_MAX_BYTES
_VERDICTS = 16_384
# ` | Initiator: https://…`: some tools add the page's address, which is not a contact.
_ANNOTATION = re.compile(
    r" \| (?:initiator|page|referr?er|source|url): ?https?://[^ ()]*$", re.IGNORECASE
)
# Web and mail addresses: crawlers name a contact, browsers do not.
_MAIL = re.compile(r"[a-z0-9]@[a-z0-9-]{1,63}\.[a-z]{2}")
# `(http://…`, `; +https://…`. QtWeb is a browser that names its maker's site.
_WEB = re.compile(r"[ (;,<+-]https?://(?!(?:www\.)?qtweb\.)")
# `(scope3.com)`; WEB.DE makes a browser. Outside of brackets (`www.uptimedoctor.com`, `+devin.ai`)
# fewer domains count.
_DOMAIN = re.compile(
    r"\((?!web\.de/)(?:[a-z0-9-]{2,63}\.){1,4}(?:com|io|org|net|ai|co|dev|app|info|eu|de|fr|uk|ru|cz|pl|nl|se|ch|it|es)[)/;]"
    r"|[ +](?!(?:docs|translate)\.google\.|ant\.com toolbar)"
    r"(?:[a-z0-9-]{2,63}\.){1,2}(?:com|io|org|ai|co|dev|gy|ly)"
    r"(?=[ ,)/]|$)"
)
# Tried before `_DOMAIN`, because it begins with a fixed character and is therefore fast.
_DOMAIN_ENDS = re.compile(
    r"\.(?:com|io|org|net|ai|co|dev|app|info|eu|de|fr|uk|ru|cz|pl|nl|se|ch|it|es|gy|ly)"
    r"(?:[ ,)/;]|$)"
)
# Engines, browsers that name no engine, and systems whose apps send requests. CloudFront replaces
# the User-Agent with its own name, unless it is configured to forward it.
_BROWSER_WORD = re.compile(
    r"gecko|webkit|khtml|trident|msie|presto|opera|goanna|servo|konqueror|chrome|firefox|safari"
    r"|edge/|browser|android|dalvik|iphone|ipad|ipod|\bios\b|cfnetwork|windows phone|hbbtv"
    r"|smart-?tv|cloudfront"
)
# `Chrome`, `Firefox/29.0`: a browser sends more than one word.
_ONE_WORD = re.compile(
    r"(?:gecko|(?:apple)?webkit|msie|opera|chrome|firefox|safari|edge|browser|android|iphone|ipad"
    r"|ios)(?:[ /]v?[\d._]+)?"
)
# Sec-Purpose is from the Fetch standard; the older ones are from Chrome, Safari and Firefox.
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_IN_ADVANCE = ("prefetch", "prerender", "preview")


class CrawlerFilter:
    """Examines User-Agents and other headers.

    Verdicts are cached under Python's 64-bit hash of the User-Agent, whose key is new in each
    process. If there are `_VERDICTS`, they are cleared.
    """

    def __init__(self) -> None:
        self._list = CrawlerList()
        self._patterns = Patterns()
        self._verdicts: dict[int, Reason | None] = {}

    def admit(self, headers: Headers) -> str:
        """Returns the User-Agent of a person's request.

        Raises:
            Ignore: it is a crawler's; the reason is one of `Reason`.
        """
        user_agent = headers.get("user-agent", "")
        reason = self.reason(user_agent) or _reason_in_headers(headers)
        if reason is not None:
            raise Ignore(reason)
        return user_agent

    def reason(self, user_agent: str) -> Reason | None:
        """Why the User-Agent is a crawler's, or None. Only its first 1,024 characters count."""
        key = hash(user_agent[:EXAMINED])
        try:
            return self._verdicts[key]
        except KeyError:
            pass
        reason = self.examine(user_agent[:EXAMINED])
        if len(self._verdicts) >= _VERDICTS:
            self._verdicts.clear()
        self._verdicts[key] = reason
        return reason

    def examine(self, user_agent: str) -> Reason | None:
        """As `reason`, without the cache."""
        if not user_agent.strip():
            return Reason.NO_USER_AGENT
        user_agent = _ANNOTATION.sub("", user_agent)
        text = fold(user_agent).strip()
        reason = self._patterns.reason(text)
        if reason is not None:
            return reason
        if _gives_contact(text):
            return Reason.CRAWLER
        if self._list.lists(text) and self._list.lists(fold(without_known_mistakes(user_agent))):
            return Reason.CRAWLER
        return None if _is_browsers(text) else Reason.NOT_A_BROWSER


def _gives_contact(text: str) -> bool:
    return (
        ("@" in text and _MAIL.search(text) is not None)
        or ("://" in text and _WEB.search(text) is not None)
        or (_DOMAIN_ENDS.search(text) is not None and _DOMAIN.search(text) is not None)
    )


def _is_browsers(text: str) -> bool:
    """Whether a browser may send this User-Agent, in lower case and without spaces around it.

    Every browser that can run the beacon names its engine and other words. An app that sends the
    request itself names the telephone's system. All others are programs, or cannot run a script.
    """
    if text.startswith("mozilla/5.0 (") and "gecko" in text:  # nearly all; this is fast
        return True
    if _BROWSER_WORD.search(text) is None:
        return False
    return _ONE_WORD.fullmatch(text.strip("[](){}\"'")) is None


def _reason_in_headers(headers: Headers) -> Reason | None:
    """Why these headers are not a person's, or None."""
    for name in _PURPOSES:
        purpose = headers.get(name)
        if purpose is not None and any(word in purpose.lower() for word in _IN_ADVANCE):
            return Reason.PREFETCH
    brands = headers.get("sec-ch-ua")
    if brands is not None and "headless" in brands.lower():
        return Reason.HEADLESS
    return None
