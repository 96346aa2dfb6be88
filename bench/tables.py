"""Tables of results: on the terminal and in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

RESULTS = Path(__file__).parent / "results"

Document = Mapping[str, Mapping[str, object]]
"""Sections of named figures."""


def terminal_table(title: str, document: Document) -> Table:
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for section, figures in document.items():
        table.add_section()
        table.add_row(f"[bold]{section}", "")
        for name, value in figures.items():
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table


def markdown_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], rules: Sequence[str] = ()
) -> list[str]:
    """The lines of a table, and an empty one. `rules` aligns the columns: `---:` to the right."""
    lines = [head, rules or ["---"] * len(head), *rows]
    return [*("| " + " | ".join(cells) + " |" for cells in lines), ""]
