"""What a decision costs: a User-Agent seen first, one seen before, and the worst of 8 KB."""

import random
import time
from collections.abc import Callable, Sequence
from statistics import median

from crawlerdetect.crawlerdetect import (
    get_compiled_crawler_regex,
    get_compiled_exclusions_regex,
)

from collector.request.crawlers import CrawlerFilter
from collector.request.crawlers.filter import EXAMINED

_BYTES = 8192
_HOSTILE = 600
_SLOW = 100  # texts for crawlerdetect, which is slow
# Parts of our patterns, and what almost matches them.
_PIECES = (
    *("a", "0", "_", "-", " ", "/", ".", ";", "@", "+", "(", "mozilla/5.0 (", "compatible; "),
    *("like gecko", "java", "newsblur ", "cpu iphone os 1", "mac os x 1", "opera mini/11.11.1/"),
    *("go 1", "y!j-a", "http", "super/1", "aZ9", "aA1bB2", "slack/", "applewebkit/", "chrome/"),
    *("a@", "gecko;", "a.b", "a-b", "web", "site", "link", "google-", "\u0130", "\u017f", "\u0660"),
)


def measure(ours: CrawlerFilter, texts: Sequence[str], rounds: int) -> list[list[str]]:
    """Lines of microseconds a User-Agent: the median (of the rounds), the 99th percentile, the
    worst. A text's time is the least of its rounds, except in the medians.
    """
    texts = sorted(set(texts))
    for text in texts:
        ours.reason(text)  # so that each was seen before
    exclusions, crawlers = get_compiled_exclusions_regex(), get_compiled_crawler_regex()
    chosen = random.Random(11)
    hostile = [_repetition(chosen)[:EXAMINED] for _ in range(_HOSTILE)]
    some = chosen.sample(texts, _SLOW)

    def crawlerdetect(text: str) -> object:
        return crawlers.search(exclusions.sub("", text))

    timed: dict[str, tuple[Callable[[str], object], Sequence[str]]] = {
        "ours, seen first": (ours.examine, texts),
        "ours, seen before": (ours.reason, texts),
        "ours, 8 KB of repetitions": (ours.examine, hostile),
        "crawlerdetect, seen first": (crawlerdetect, some),
    }
    return [[name, *_times(act, of, rounds)] for name, (act, of) in timed.items()]


def _repetition(chosen: random.Random) -> str:
    """8 KB of one to five pieces, repeated: this makes regular expressions backtrack."""
    pieces = [chosen.choice(_PIECES) for _ in range(chosen.randint(1, 5))]
    return (chosen.choice(_PIECES) * chosen.randint(0, 9) + "".join(pieces) * _BYTES)[:_BYTES]


def _times(act: Callable[[str], object], texts: Sequence[str], rounds: int) -> list[str]:
    measured = [[_once(act, text) for text in texts] for _ in range(rounds)]
    medians = [median(one) for one in measured]
    least = sorted(map(min, zip(*measured, strict=True)))
    return [
        f"{median(medians):.2f} ({min(medians):.2f} to {max(medians):.2f})",
        f"{least[int(len(least) * 0.99)]:.2f}",
        f"{least[-1]:.2f}",
    ]


def _once(act: Callable[[str], object], text: str) -> float:
    started = time.perf_counter_ns()
    act(text)
    return (time.perf_counter_ns() - started) / 1000
