"""What the process that forks our programs has done before they are forked."""

import gc

from collector.request.crawlers.filter import CrawlerFilter

# `re` keeps what it has compiled.
CrawlerFilter()
# A forked program does not search for garbage among what it was forked with, which would also give
# it a copy of each page of that.
gc.freeze()
