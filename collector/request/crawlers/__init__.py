"""Crawler or person, and how a crawler was recognised.

`filter` asks in turn, and the first answer counts: our own patterns (`patterns`, `names`), whether
the User-Agent names a contact (`contact`), crawlerdetect's list (`listed`) without its known
mistakes (`exceptions`), whether it has a browser's words (`shape`), and the other headers
(`request_headers`).
"""

from collector.request.crawlers.filter import CrawlerFilter
from collector.request.crawlers.reason import Reason

__all__ = ["CrawlerFilter", "Reason"]
