"""Tables of results in Markdown, for files and for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

Document = Mapping[str, Mapping[str, object]]
"""Sections of named figures."""


def document_tables(document: Document) -> list[str]:
    """The lines of a table for each section."""
    lines = []
    for section, figures in document.items():
        rows = [(name, str(value)) for name, value in figures.items()]
        lines += markdown_table((section, ""), rows, numbers=True)
    return lines


def markdown_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False
) -> list[str]:
    """The lines of a table, and an empty one. With `numbers`, only the first column is text."""
    rules = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return [*("| " + " | ".join(cells) + " |" for cells in (head, rules, *rows)), ""]
