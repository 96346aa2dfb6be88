"""Crawler or person, and how a crawler was recognised.

`filter` asks in turn: the headers (`request_signs`), then the User-Agent: our own signs (`signs`,
`names`, `contact`), crawlerdetect's list (`listed`) less its known mistakes (`guards`), `shape`.
"""

from collector.request.crawlers.filter import CrawlerFilter
from collector.request.crawlers.reason import Reason

__all__ = ["CrawlerFilter", "Reason"]
