"""collector/request/crawlers/pattern_tree.py: one expression finds what many expressions find."""

import re

from hypothesis import given
from hypothesis import strategies as st

from collector.request.crawlers.pattern_tree import SearchTree

EXPRESSIONS = [
    *("abc", "ab", "abd", "^abc", "b$", "^ab$", "a|b/", "^c|cd", "[a-c]d", "a[^]b]c", r"a\.b"),
    *("a.b", "(a)?b", "(ab)?c", "(a|b)c", "[ab]*(ca|cb)", "a+b", "a{2}b", "a{1,2}c", "a(?!b)"),
    *(r"a\/b", "ca*b", "(a(b|c))?d", "[|]a", r"\|b"),
    # What precedes a letter is checked by looking back.
    *("/b", r"/\.a+", "(/|a)/c"),
]


def test_a_tree_of_nothing_finds_nothing() -> None:
    assert not SearchTree([]).finds("")


@given(
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=6), st.text("abcd/.]|", max_size=6)
)
def test_a_tree_finds_what_its_expressions_find(expressions: list[str], text: str) -> None:
    expected = any(re.search(expression, text) for expression in expressions)
    assert SearchTree(expressions).finds(text) == expected
