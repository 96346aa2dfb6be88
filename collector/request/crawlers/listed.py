r"""crawlerdetect's list, with the same decisions as the package, but a hundred times faster.

The package removes what 52 expressions match (`Mozilla/5.0`, `Safari/537.36` …), and searches the
rest for 1,460 others, ignoring case. Here both lists become expressions that are fast in `re`, for
a text in lower case (docs/decisions/0005 says why). tests/unit/test_listed.py compares the
decisions with the package's, also after an update of the package.
"""

import re
from collections.abc import Sequence
from importlib import import_module

from collector.request.crawlers.pattern_tree import SearchTree, split_atoms

# Characters that `re.IGNORECASE` matches with an ASCII letter, but `str.lower` does not.
_LIKE_ASCII = str.maketrans({"İ": "i", "ı": "i", "ſ": "s", "\u212a": "k"})  # noqa: RUF001 - meant
_UPPER_CASE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[A-Z]")
_OPTIONAL_BEGINNING = re.compile(r"\(([^()|?*+\\\[\].^$]+)\)\?")


def fold(text: str) -> str:
    """The text in lower case. Letters that `re.IGNORECASE` treats as ASCII become ASCII."""
    return text.lower() if text.isascii() else text.translate(_LIKE_ASCII).lower()


class CrawlerList:
    """Searches for crawlers, after removing what the exclusions match."""

    def __init__(self) -> None:
        self._crawlers = SearchTree(_expressions("crawlers"))
        self._leave_out = re.compile(by_first_letter(_expressions("exclusions"))).sub

    def lists(self, text: str) -> bool:
        """Whether the list matches this User-Agent, which must be a result of `fold`."""
        return self._crawlers.finds(self._leave_out("", text.strip()))


def by_first_letter(expressions: Sequence[str]) -> str:
    """Combines expressions into one that finds the same matches.

    `re` takes the first alternative that matches, so expressions that begin with the same letter
    keep their order. `re` is fast if the alternatives begin with different letters.
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
            return "|".join(spelt)  # it may begin with several letters, so the order matters
        groups.setdefault(first, []).append("".join(others))
    return "|".join(f"{first}(?:{'|'.join(rests)})" for first, rests in groups.items())


def in_lower_case(expression: str) -> str:
    if _UPPER_CASE_CLASS.search(expression):
        raise ValueError(f"{expression!r} means something else in lower case")
    return expression.lower()


def _expressions(name: str) -> list[str]:
    """The package's: regular expressions that ignore case."""
    return list(map(in_lower_case, import_module(f"crawlerdetect.providers.{name}").data))
