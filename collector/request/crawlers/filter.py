"""Decides whether a request is a crawler's or a person's, and caches these verdicts."""

import re

from collector.request.crawlers.contact import gives_contact
from collector.request.crawlers.exceptions import without_known_mistakes
from collector.request.crawlers.listed import CrawlerList, fold
from collector.request.crawlers.patterns import Patterns
from collector.request.crawlers.reason import Reason
from collector.request.crawlers.request_headers import reason_in_headers
from collector.request.crawlers.shape import is_browsers
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


class CrawlerFilter:
    """Examines User-Agents and other headers.

    Verdicts are cached under Python's 64-bit hash of the User-Agent, whose key is new in each
    process. If there are `_VERDICTS`, they are cleared.
    """

    def __init__(self) -> None:
        self._list = CrawlerList.of_package()
        self._patterns = Patterns()
        self._verdicts: dict[int, Reason | None] = {}

    def admit(self, headers: Headers) -> str:
        """Returns the User-Agent of a person's request.

        Raises:
            Ignore: it is a crawler's; the reason is one of `Reason`.
        """
        user_agent = headers.get("user-agent", "")
        reason = self.reason(user_agent) or reason_in_headers(headers)
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
        if gives_contact(text):
            return Reason.CRAWLER
        if self._list.lists(text) and self._list.lists(fold(without_known_mistakes(user_agent))):
            return Reason.CRAWLER
        return None if is_browsers(text) else Reason.NOT_A_BROWSER
