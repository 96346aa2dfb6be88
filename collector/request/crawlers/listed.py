r"""crawlerdetect's list, with its own verdicts, two orders of magnitude faster.

The package removes what 52 expressions match (`Mozilla/5.0`, `Safari/537.36` …), and searches the
rest for 1,460 others, ignoring case. Here both lists become expressions that are fast in `re`, over
a text in lower case (docs/decisions/0005 says why). tests/unit/test_listed.py checks that the
decisions are the package's own, so that an update of the package either fits or fails there.
"""

import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import cast

from collector.request.crawlers.pattern_tree import SearchTree, split_atoms

# Characters that `re.IGNORECASE` matches with an ASCII letter, but `str.lower` does not.
_LIKE_ASCII = str.maketrans({"İ": "i", "ı": "i", "ſ": "s", "\u212a": "k"})  # noqa: RUF001 - meant
_UPPER_CASE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[A-Z]")
_OPTIONAL_BEGINNING = re.compile(r"\(([^()|?*+\\\[\].^$]+)\)\?")


def fold(text: str) -> str:
    """The text in lower case, with the letters that `re.IGNORECASE` treats as ASCII as ASCII."""
    return text.lower() if text.isascii() else text.translate(_LIKE_ASCII).lower()


class CrawlerList:
    """Decides by a list of crawlers, after removing the matches of a list of exclusions."""

    def __init__(self, crawlers: Iterable[str], exclusions: Sequence[str]) -> None:
        """Both are regular expressions that ignore case."""
        self._crawlers = SearchTree(map(_in_lower_case, crawlers))
        self._leave_out = re.compile(by_first_letter(list(map(_in_lower_case, exclusions)))).sub

    @classmethod
    def of_package(cls) -> "CrawlerList":
        """The list of the package."""
        return cls(_data("crawlers"), _data("exclusions"))

    def lists(self, text: str) -> bool:
        """Whether the list has this User-Agent, which must be the result of `fold`."""
        return self._crawlers.finds(self._leave_out("", text.strip()))


def by_first_letter(expressions: Sequence[str]) -> str:
    """Combines the expressions into one that finds the same match at each position of a text.

    `re` takes the first alternative that matches, so expressions that can match at the same
    position keep their order. Those that begin with different letters can't, and `re` is fast if
    the alternatives begin with different letters.
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
            return "|".join(spelt)  # it may begin with several letters: keep the list's order
        groups.setdefault(first, []).append("".join(others))
    return "|".join(f"{first}(?:{'|'.join(rests)})" for first, rests in groups.items())


def _in_lower_case(expression: str) -> str:
    if _UPPER_CASE_CLASS.search(expression):
        raise ValueError(f"{expression!r} means something else in lower case")
    return expression.lower()


def _data(name: str) -> list[str]:
    module = import_module(f"crawlerdetect.providers.{name}")
    return cast("list[str]", module.data)
