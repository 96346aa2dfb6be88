"""The lock files: each has what its `make` target needs, and everything of the one before it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NAMES = ("production", "run", "test", "development")
EXTRAS = {
    "production": (),
    "run": ("embedded",),
    "test": ("embedded", "test"),
    "development": ("embedded", "bench", "test", "check"),
}
PLOTS = ROOT / "bench/speed/report.py"
# What each of them is for, beside what the one before it is for.
CODE = {
    "production": [
        f"{name}/**/*.py"
        for name in ("contract", "runtime", "salt", "collector", "flusher", "rotation")
    ],
    "run": ["embedded/**/*.py", "bench/load/**/*.py"],  # `make run` suggests bench.load
    "test": ["bench/**/*.py", "tests/**/*.py"],
    "development": [PLOTS.relative_to(ROOT).as_posix()],
}
distributions = cache(packages_distributions)


def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


@cache
def locked(name: str) -> dict[str, set[str]]:
    """The requirements by package. There are several if the version depends on Python's."""
    found: dict[str, set[str]] = {}
    for line in re.findall(r"^(\S+==.*?) *\\?$", lock(name), flags=re.MULTILINE):
        found.setdefault(canonicalize_name(Requirement(line).name), set()).add(line)
    return found


@pytest.mark.parametrize("name", [*NAMES, "superset"])
def test_every_requirement_has_a_hash_and_no_address_is_named(name: str) -> None:
    text = re.sub(r" *#.*", "", lock(name))
    assert "://" not in text
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert len(requirements) == sum(map(len, locked(name).values())) > 20
    hashed = r"\S+==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+"
    for requirement in requirements:
        assert re.fullmatch(hashed, requirement.rstrip()), requirement[:100]


@pytest.mark.parametrize(("smaller", "larger"), list(pairwise(NAMES)))
def test_each_has_all_of_the_one_before_it_in_the_same_version(smaller: str, larger: str) -> None:
    """Going from `make run` to `make test` to `make check` only adds packages."""
    have = {package: versions(larger, package) for package in locked(smaller)}
    assert have == {package: versions(smaller, package) for package in locked(smaller)}


def versions(name: str, package: str) -> set[str]:
    """Without the markers, which are wider if more packages need this one."""
    return {line.partition(" ;")[0] for line in locked(name).get(package, ())}


@pytest.mark.parametrize("name", NAMES)
def test_the_projects_requirements_are_locked_in_a_version_that_it_allows(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + [line for extra in EXTRAS[name] for line in extras[extra]]
    for requirement in map(Requirement, asked):
        lines = locked(name).get(canonicalize_name(requirement.name), set())
        found = [line.partition("==")[2].partition(" ")[0] for line in lines]
        assert found, requirement
        assert all(map(requirement.specifier.contains, found)), (requirement, found)


def test_running_needs_no_tool_of_the_checks_the_tests_or_the_plots() -> None:
    tools = {"matplotlib", "mypy", "numpy", "pip-audit", "playwright", "pytest", "ruff"}
    assert not tools & locked("run").keys()
    assert not {"matplotlib", "mypy", "numpy", "ruff"} & locked("test").keys()


@pytest.mark.parametrize("name", NAMES)
def test_what_the_code_imports_is_locked(name: str) -> None:
    """Otherwise a target would fail at an import where only its own lock file is installed."""
    # A package that is not installed here is assumed to have its module's name.
    missing = {
        (package, path.relative_to(ROOT).as_posix())
        for folder in CODE[name]
        for path in ROOT.glob(folder)
        if path != PLOTS or name == "development"
        for module in foreign_imports(path)
        for package in map(canonicalize_name, distributions().get(module, [module]))
        if package not in locked(name)
    }
    assert missing == set()


def foreign_imports(path: Path) -> Iterator[str]:
    """The modules that a file imports and that are neither Python's nor ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for first in (name.partition(".")[0] for name in names):
            if first not in sys.stdlib_module_names and not (ROOT / first).is_dir():
                yield first
