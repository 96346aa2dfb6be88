"""collector/request/crawlers/listed.py: it gives the same verdicts as crawlerdetect."""

import re
from collections.abc import Callable

import pytest
from crawlerdetect import CrawlerDetect
from crawlerdetect.providers import crawlers
from hypothesis import given
from hypothesis import strategies as st

from bench.crawlers.corpora import agents, people
from collector.request.crawlers.listed import CrawlerList, fold, in_lower_case

LIST = CrawlerList()
STOCK = CrawlerDetect()
# The time of the package's expressions grows with the square of some texts' length.
LONGEST = 300


def assert_same(text: str) -> None:
    assert LIST.lists(fold(text)) == STOCK._check_crawler(text.strip())[0], repr(text)


def test_the_whole_corpus_has_the_packages_verdicts() -> None:
    """40,000 User-Agents; what the package said is beside each."""
    rows = [*agents(), *people()]
    assert len(rows) > 40_000
    differing = [row.text for row in rows if LIST.lists(fold(row.text)) != ("c" in row.called)]
    assert not differing


def test_each_expression_of_the_package_alone_has_the_same_verdict() -> None:
    """On a text that is derived from the expression, as far as that is possible. It fails if an
    update of the package uses what our code can't handle.
    """
    for expression in crawlers.data:
        plain = re.sub(r"\\(.)", r"\1", re.sub(r"\[0-9\\?\.?\]\+?", "1", expression.strip("^$")))
        assert_same(plain)
        assert_same(f"Mozilla/5.0 ({plain}) Gecko")


pieces = st.sampled_from(
    [
        *(re.sub(r"[\\^$]", "", word)[:12] for word in crawlers.data[::7]),
        *("Mozilla/5.0 ", "Safari/537.36", "(compatible; ", " Chrome/1.2", "like Gecko", "Gecko/1"),
        *("Mac OS X 10_1", "CPU iPhone OS 1_2 like Mac OS X", "Opera Mini/1.2.3/4.", "Opera", " "),
        *("bot", "b0t", "CUBOT", "; M bot", "YandexSearch", "Yandex", '"Yandex"', " .NET CLR 1"),
        *("/", "1", "_", "\u0130", "\u0131", "\u017f", "\u212a", "\u0663", "\xe9", "\udcff", "-"),
    ]
)


@given(
    st.lists(pieces | st.text(max_size=3), max_size=8).map("".join),
    st.sampled_from([str, str.upper, str.swapcase]),
)
def test_any_text_in_any_case_has_the_packages_verdict(
    text: str, change: Callable[[str], str]
) -> None:
    assert_same(change(text)[:LONGEST])


def test_an_expression_that_lower_case_would_change_is_refused() -> None:
    with pytest.raises(ValueError, match="lower case"):
        in_lower_case(r"\Dbot")
