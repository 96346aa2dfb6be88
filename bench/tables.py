"""Results in Markdown: pages in files, and tables also for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
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


def save_page(folder: Path, name: str, lines: Iterable[str]) -> str:
    """Writes `NAME.md` into a folder, which is made if it is missing; the page's text."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines).rstrip() + "\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return text
