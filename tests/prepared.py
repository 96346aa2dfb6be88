"""What the process that forks our programs has done before: `re` keeps what it has compiled."""

from collector.request.crawlers.filter import CrawlerFilter

CrawlerFilter()
