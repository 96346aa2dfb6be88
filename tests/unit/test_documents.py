"""The documents: their links, and the files and targets that they name, exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.system import ROOT

DOCUMENTS: Final = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "beacon" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
# A new reader opens at most so many files to follow one POST to its row.
MOST_FILES: Final = 25

pages = pytest.mark.parametrize(
    "page", DOCUMENTS, ids=[str(page.relative_to(ROOT)) for page in DOCUMENTS]
)


def text_of(page: Path) -> str:
    """Without its blocks of code, in which `#` and brackets mean something else."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link within the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text_of(page)):
        path, _, anchor = "".join(target).partition("#")
        if not path.startswith(("http:", "https:")):
            yield (page.parent / path if path else page), anchor


@pages
def test_every_link_has_its_target(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@pages
def test_every_file_that_is_named_with_its_folder_exists(page: Path) -> None:
    made = {".data", ".venv"}  # by programs, and not always there
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in made
    )
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", text_of(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pages
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


def test_the_files_of_one_post_are_few_and_exist() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    (way,) = re.findall(r"^## One POST, file by file$(.*?)^###* ", page, re.MULTILINE | re.DOTALL)
    files = list(dict.fromkeys(re.findall(r"`([\w/]+\.(?:py|js|sql|lua))`", way)))
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert 10 < len(files) <= MOST_FILES
