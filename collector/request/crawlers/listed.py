r"""crawlerdetect's list, with its own verdicts, two orders of magnitude faster.

The package searches a text, in any case, for one of 1,460 expressions, after it has taken out what
52 others match (`Mozilla/5.0`, `Safari/537.36` …). Here both are made once into expressions that
`re` is good at, over a text that is in lower case already; why so is in docs/decisions/0005. That
the verdicts are the package's own is what tests/unit/test_listed.py holds, so that an update of the
package either fits or fails there.
"""

import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import cast

from collector.request.crawlers.pattern_tree import SearchTree, split_atoms

# What `re.IGNORECASE` takes for an ASCII letter, and `str.lower` does not, or in two characters.
_LIKE_ASCII = str.maketrans({"İ": "i", "ı": "i", "ſ": "s", "\u212a": "k"})  # noqa: RUF001 - meant
_UPPER_CASE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[A-Z]")
_OPTIONAL_BEGINNING = re.compile(r"\(([^()|?*+\\\[\].^$]+)\)\?")


def fold(text: str) -> str:
    """The text in lower case, each letter that a search in any case takes for ASCII as ASCII."""
    return text.lower() if text.isascii() else text.translate(_LIKE_ASCII).lower()


class CrawlerList:
    """The verdicts of a list of crawlers and a list of what to leave out first."""

    def __init__(self, crawlers: Iterable[str], exclusions: Sequence[str]) -> None:
        """Takes expressions as `re` does, to be matched in any case."""
        self._crawlers = SearchTree(map(_in_lower_case, crawlers))
        self._leave_out = re.compile(by_first_letter(list(map(_in_lower_case, exclusions)))).sub

    @classmethod
    def of_package(cls) -> "CrawlerList":
        """The list of the package."""
        return cls(_data("crawlers"), _data("exclusions"))

    def lists(self, text: str) -> bool:
        """Whether it is a crawler's, of a text that `fold` gave."""
        return self._crawlers.finds(self._leave_out("", text.strip()))


def by_first_letter(expressions: Sequence[str]) -> str:
    """The expressions as one, which takes the same one of them at each place of a text.

    The first that matches is taken, so those that can match at one place keep their order. Two
    that begin with different letters can't, and `re` is fast with alternatives that begin so.
    """
    spelt: list[str] = []
    for expression in expressions:
        with_and_without = _OPTIONAL_BEGINNING.match(expression)
        if with_and_without:
            rest = expression[with_and_without.end() :]
            spelt += [with_and_without[1] + rest, rest]
        else:
            spelt.append(expression)
    groups: dict[str, list[str]] = {}
    for expression in spelt:
        first, *others = split_atoms(expression)
        first = re.escape(first[1]) if re.fullmatch(r"\[[^\\^]\]", first) else first
        if not re.fullmatch(r"[^\\()\[\].^$|*+?{}]|\\[^\w]", first):
            return "|".join(spelt)  # it may begin with several letters: as the list has it
        groups.setdefault(first, []).append("".join(others))
    return "|".join(f"{first}(?:{'|'.join(rests)})" for first, rests in groups.items())


def _in_lower_case(expression: str) -> str:
    if _UPPER_CASE_CLASS.search(expression):
        raise ValueError(f"{expression!r} means something else in lower case")
    return expression.lower()


def _data(name: str) -> list[str]:
    module = import_module(f"crawlerdetect.providers.{name}")
    return cast("list[str]", module.data)
