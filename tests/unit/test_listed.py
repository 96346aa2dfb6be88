"""collector/request/crawlers/listed.py: the verdicts are crawlerdetect's own."""

import random
import re

import pytest
from crawlerdetect import CrawlerDetect
from crawlerdetect.providers import crawlers, exclusions
from hypothesis import given
from hypothesis import strategies as st

from bench.crawlers.corpora import agents, people
from collector.request.crawlers.listed import CrawlerList, by_first_letter, fold

LIST = CrawlerList.of_package()
STOCK = CrawlerDetect()
# The package's expressions take time that grows with the square of some texts' length.
LONGEST = 300
SAMPLE = 2_000


def assert_same(text: str) -> None:
    assert LIST.lists(fold(text)) == STOCK._check_crawler(text.strip())[0], repr(text)


def test_the_verdicts_are_those_that_the_package_gave_on_the_whole_corpus() -> None:
    """40,000 User-Agents; what the package said is beside each."""
    rows = [*agents(), *people()]
    assert len(rows) > 40_000
    differing = [row.text for row in rows if LIST.lists(fold(row.text)) != ("c" in row.called)]
    assert not differing


def test_the_verdicts_are_those_that_the_installed_package_gives_on_a_sample() -> None:
    """An update of the package that this can't follow fails here."""
    chosen = random.Random(5)  # noqa: S311 - a sample, the same each time
    for rows in (agents(), people()):
        for row in chosen.sample(rows, SAMPLE // 2):
            assert_same(row.text[:LONGEST])


def test_every_expression_of_the_package_is_found_alone() -> None:
    """Each one's own words, as far as they can be spelt from it."""
    for expression in crawlers.data:
        plain = re.sub(r"\\(.)", r"\1", re.sub(r"\[0-9\\?\.?\]\+?", "1", expression.strip("^$")))
        assert_same(plain)
        assert_same(f"Mozilla/5.0 ({plain}) Gecko")


@pytest.mark.parametrize(
    "text",
    ["\u017fpider", "sp\u0130der", "sp\u0131der", "\u212aube-probe", "\u017fafari/1 cu\u212arl"],
)
def test_a_letter_that_any_case_takes_for_ascii_is_one(text: str) -> None:
    assert_same(text)


def test_what_is_left_out_may_join_a_crawlers_name() -> None:
    for text in ("goog" + "Linux" + "lebot", "cu" + "X11" + "rl", "Linux" * 3, "boLinuxt"):
        assert_same(text)


pieces = st.sampled_from(
    [
        *(re.sub(r"[\\^$]", "", word)[:12] for word in crawlers.data[::7]),
        *("Mozilla/5.0 ", "Safari/537.36", "(compatible; ", " Chrome/1.2", "like Gecko", "Gecko/1"),
        *("Mac OS X 10_1", "CPU iPhone OS 1_2 like Mac OS X", "Opera Mini/1.2.3/4.", "Opera"),
        *(
            "bot",
            "b0t",
            "CUBOT",
            "; M bot",
            "YandexSearch",
            "Yandex",
            '"Yandex"',
            " .NET CLR 1",
            " ",
        ),
        *("/", "1", "_", "\u0130", "\u0131", "\u017f", "\u212a", "\u0663", "\xe9", "\udcff", "-"),
    ]
)


@given(st.lists(pieces | st.text(max_size=3), max_size=8).map("".join))
def test_any_text_has_the_packages_verdict(text: str) -> None:
    assert_same(text[:LONGEST])


@given(st.lists(pieces, max_size=6).map("".join), st.sampled_from([str.upper, str.swapcase]))
def test_the_case_is_of_no_matter(text: str, change: object) -> None:
    assert callable(change)
    assert_same(change(text)[:LONGEST])


@pytest.mark.parametrize(
    ("expressions", "text", "left"),
    [
        (["ab", "abc"], "abcd", "cd"),
        (["abc", "ab"], "abcd", "d"),
        (["(like )?g", "l"], "like g", ""),
        (["[ ]i", " x"], " i x", ""),
        (["[ab]c", "b"], "bcb", ""),
    ],
)
def test_the_first_expression_that_matches_is_taken(
    expressions: list[str], text: str, left: str
) -> None:
    assert re.sub(by_first_letter(expressions), "", text) == left
    assert re.sub("|".join(expressions), "", text) == left


def test_the_packages_exclusions_begin_with_letters() -> None:
    """Else they are tried one after the other, which is right, but slow."""
    assert by_first_letter([one.lower() for one in exclusions.data]).count("safari") == 0


def test_an_expression_that_lower_case_would_change_is_refused() -> None:
    with pytest.raises(ValueError, match="lower case"):
        CrawlerList([r"\Dbot"], [])
