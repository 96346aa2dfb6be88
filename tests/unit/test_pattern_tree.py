"""collector/request/crawlers/pattern_tree.py: one expression finds what the many would."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.request.crawlers.pattern_tree import SearchTree, split_alternatives, split_atoms

EXPRESSIONS = [
    *("abc", "ab", "abd", "^abc", "b$", "^ab$", "a|b/", "^c|cd", "[a-c]d", "a[^]b]c", r"a\.b"),
    *(
        "a.b",
        "(a)?b",
        "(ab)?c",
        "(a|b)c",
        "[ab]*(ca|cb)",
        "a+b",
        "a{2}b",
        "a(?!b)",
        r"a\/b",
        "ca*b",
        # What precedes a letter is looked back at.
        "/b",
        r"/\.a+",
        "(/|a)/c",
    ),
]


@pytest.mark.parametrize(
    ("expression", "atoms"),
    [
        ("abc", ["a", "b", "c"]),
        (r"a\.b+", ["a", r"\.", "b+"]),
        ("[^]a]x", ["[^]a]", "x"]),
        ("(a(b|c))?d", ["(a(b|c))?", "d"]),
        (r"a\/b", ["a", "/", "b"]),
        (r"\([(]a(\)[)])+", [r"\(", "[(]", "a", r"(\)[)])+"]),
        ("a{1,2}", ["a{1,2}"]),
    ],
)
def test_an_expression_is_split_into_what_it_is_made_of(expression: str, atoms: list[str]) -> None:
    assert split_atoms(expression) == atoms


def test_alternatives_in_groups_and_classes_are_no_alternatives_of_the_whole() -> None:
    assert split_alternatives(r"a|b(c|d)|[|]|\|") == ["a", "b(c|d)", "[|]", r"\|"]


def test_a_tree_of_nothing_finds_nothing() -> None:
    assert not SearchTree([]).finds("")


@given(
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=6), st.text("abcd/.]", max_size=6)
)
def test_a_tree_finds_what_its_expressions_find(expressions: list[str], text: str) -> None:
    expected = any(re.search(expression, text) for expression in expressions)
    assert SearchTree(expressions).finds(text) == expected
