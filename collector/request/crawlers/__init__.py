"""Decides whether a request is a crawler's.

`filter` applies these rules, and the first that matches counts: our own patterns (`patterns`,
`names`), a contact in the User-Agent, crawlerdetect's list (`listed`) without its known mistakes
(`exceptions`), no words of a browser, and the other headers.
"""

from collector.request.crawlers.filter import CrawlerFilter
from collector.request.crawlers.reason import Reason

__all__ = ["CrawlerFilter", "Reason"]
