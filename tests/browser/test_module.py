"""beacon/ as a package, and what `/beacon.js` is made of: size, syntax, its own unit tests."""

import json
import re
import subprocess
from pathlib import Path

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest

from collector.http.beacon import SOURCE, without_comments
from tests.browser.programs import require_node
from tests.system import ROOT

BEACON = ROOT / "beacon"
MAX_BYTES = 1100
# Later than ES2020, or in fewer browsers than the README names, and no syntax.
TOO_NEW = (
    r"\.at\(|\.replaceAll\(|Object\.hasOwn|structuredClone|randomUUID\(|Promise\.any|\.findLast"
)
PARSE = """
const acorn = require("internal/deps/acorn/acorn/dist/acorn");
const text = require("fs").readFileSync(0, "utf8");
acorn.parse(text, { ecmaVersion: 2020, sourceType: "module" });
"""


@pytest.fixture
def served() -> str:
    return without_comments(SOURCE.read_text())


def test_it_is_small_over_the_wire(served: str) -> None:
    assert len(brotli.compress(served.encode(), quality=11)) <= MAX_BYTES


def test_comments_and_indentation_are_left_out_and_nothing_else(served: str) -> None:
    assert re.search(r"\s//", served) is None, "a comment that shares its line with code"
    squeezed = [line.strip() for line in SOURCE.read_text().splitlines()]
    assert served.splitlines() == [line for line in squeezed if line and not line.startswith("//")]
    assert served.count("`") == 0, "a string of several lines would lose its indentation"


@pytest.mark.parametrize("variant", ["as it is", "as it is served"])
def test_its_unit_tests_pass(variant: str, served: str, tmp_path: Path) -> None:
    file = SOURCE
    if variant == "as it is served":
        file = tmp_path / "beacon.js"
        file.write_text(served)
    result = subprocess.run(
        [require_node(), "--test", "--test-reporter=tap"],
        cwd=BEACON,
        env={"BEACON": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "# fail 0" in result.stdout
    assert "# tests 0" not in result.stdout


def test_it_is_es2020_as_the_readme_says(served: str) -> None:
    """Parsed by the parser inside node, for that year."""

    def parse(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [require_node(), "--expose-internals", "--eval", PARSE],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert parse("let a; a ??= 1;").returncode != 0, "ES2021 goes unnoticed"
    result = parse(served)
    assert result.returncode == 0, result.stderr
    assert re.search(TOO_NEW, served) is None


def test_types_and_package_name_what_there_is(served: str) -> None:
    package = json.loads((BEACON / "package.json").read_text())
    assert "dependencies" not in package
    for file in (*package["files"], *package["exports"]["."].values(), package["types"]):
        assert (BEACON / file).is_file(), file
    types = (BEACON / "beacon.d.ts").read_text()
    exported = r"^export (?:declare )?function (\w+)"
    assert re.findall(exported, types, re.MULTILINE) == ["start", "upgrade"]
    assert re.findall(exported, served, re.MULTILINE) == ["start", "upgrade"]
    options = set(re.findall(r"^  (\w+)\?:", types, re.MULTILINE))
    taken = re.search(r"async \(\{ (.*?) \}\)", served)
    assert taken is not None
    assert {name.split(" ")[0] for name in taken[1].split(", ")} == options
