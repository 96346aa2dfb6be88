"""Step 3: crawler or person."""

from functools import lru_cache

from crawlerdetect import CrawlerDetect

from contract.errors import Ignore

# crawlerdetect's expressions take time that grows with the square of some inputs' length: what
# tells a crawler stands at the front.
_EXAMINED = 256
_VERDICTS = 16_384


class CrawlerFilter:
    """Tells crawlers by their User-Agent. Keeps verdicts, bounded, to spare the list's cost."""

    def __init__(self) -> None:
        detector = CrawlerDetect()

        @lru_cache(_VERDICTS)
        def is_crawler(user_agent: str) -> bool:
            return bool(detector.is_crawler(user_agent))

        self._is_crawler = is_crawler

    def admit(self, user_agent: str | None) -> str:
        """The User-Agent of a person's browser, whole.

        Raises:
            Ignore: a crawler's, or none: no browser leaves it out.
        """
        if not user_agent or not user_agent.strip():
            raise Ignore("no_user_agent")
        if self._is_crawler(user_agent[:_EXAMINED]):
            raise Ignore("crawler")
        return user_agent
