"""What a verdict costs: a User-Agent seen first, one seen before, and the worst of 8 KB."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crawlerdetect.crawlerdetect import (
    get_compiled_crawler_regex,
    get_compiled_exclusions_regex,
)

from collector.request.crawlers import CrawlerFilter
from collector.request.crawlers.filter import EXAMINED

TIMED = {
    "cold": "ours, seen first",
    "cached": "ours, seen before",
    "8 KB": "ours, 8 KB of repetitions",
    "crawlerdetect": "crawlerdetect, seen first",
}
_BYTES = 8192
_HOSTILE = 600
_SLOW = 100  # texts for crawlerdetect, which takes its time
_PIECES = (
    *("a", "0", "_", "-", " ", "/", ".", ";", "@", "+", "(", "mozilla/5.0 (", "compatible; "),
    *("like gecko", "java", "newsblur ", "cpu iphone os 1", "mac os x 1", "opera mini/11.11.1/"),
    *("go 1", "y!j-a", "http", "super/1", "aZ9", "aA1bB2", "slack/", "applewebkit/", "chrome/"),
    *("a@", "gecko;", "a.b", "a-b", "web", "site", "link", "google-", "\u0130", "\u017f", "\u0660"),
)


class Times(NamedTuple):
    """Microseconds a User-Agent: the median of rounds, least and most of them; over the texts."""

    median: float
    least: float
    most: float
    p99: float
    worst: float


def measure(ours: CrawlerFilter, texts: Sequence[str], rounds: int) -> dict[str, Times]:
    """The times of `TIMED`. A text's time is the least of its rounds but in the rounds' medians."""
    texts = sorted(set(texts))
    for text in texts:
        ours.reason(text)
    exclusions, crawlers = get_compiled_exclusions_regex(), get_compiled_crawler_regex()
    chosen = random.Random(11)
    hostile = [_repetition(chosen) for _ in range(_HOSTILE)]
    return {
        "cold": _times(ours.examine, texts, rounds),
        "cached": _times(ours.reason, texts, rounds),
        "8 KB": _times(lambda text: ours.examine(text[:EXAMINED]), hostile, rounds),
        "crawlerdetect": _times(
            lambda text: crawlers.search(exclusions.sub("", text)),
            chosen.sample(texts, _SLOW),
            rounds,
        ),
    }


def _repetition(chosen: random.Random) -> str:
    """8 KB of one to five pieces over and over: what makes expressions go back and forth."""
    pieces = [chosen.choice(_PIECES) for _ in range(chosen.randint(1, 5))]
    return (chosen.choice(_PIECES) * chosen.randint(0, 9) + "".join(pieces) * _BYTES)[:_BYTES]


def _times(act: Callable[[str], object], texts: Sequence[str], rounds: int) -> Times:
    measured = [[_once(act, text) for text in texts] for _ in range(rounds)]
    medians = [statistics.median(one) for one in measured]
    least = sorted(map(min, zip(*measured, strict=True)))
    return Times(
        statistics.median(medians),
        min(medians),
        max(medians),
        least[int(len(least) * 0.99)],
        least[-1],
    )


def _once(act: Callable[[str], object], text: str) -> float:
    started = time.perf_counter_ns()
    act(text)
    return (time.perf_counter_ns() - started) / 1000
