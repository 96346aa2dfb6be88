"""The lock files: each has what its `make` target takes, all of the one before it, and no more."""

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
# A module or a folder of them, and with each the modules of ours that it imports.
ROOTS = {
    "production": ("collector", "flusher", "rotation"),
    "run": ("embedded", "bench/load/__main__.py"),  # the banner says to try that one
    "test": ("tests",),
    "development": ("bench",),
}


def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


@cache
def locked(name: str) -> dict[str, set[str]]:
    """The requirements by package: more than one where the version depends on Python's."""
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
    """So that going from `make run` to `make test` to `make check` only adds packages."""
    have = {package: versions(larger, package) for package in locked(smaller)}
    assert have == {package: versions(smaller, package) for package in locked(smaller)}


def versions(name: str, package: str) -> set[str]:
    """Without the markers, which are wider where more packages ask for this one."""
    return {line.partition(" ;")[0] for line in locked(name).get(package, ())}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_project_asks_for_is_locked_in_a_version_it_allows(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + [line for extra in EXTRAS[name] for line in extras[extra]]
    for requirement in map(Requirement, asked):
        lines = locked(name).get(canonicalize_name(requirement.name), set())
        found = [line.partition("==")[2].partition(" ")[0] for line in lines]
        assert found, requirement
        assert all(map(requirement.specifier.contains, found)), (requirement, found)


def test_running_takes_nothing_of_what_checks_tests_and_draws() -> None:
    tools = {"matplotlib", "mypy", "numpy", "pip-audit", "playwright", "pytest", "ruff"}
    assert not tools & locked("run").keys()
    assert not {"matplotlib", "mypy", "numpy", "ruff"} & locked("test").keys()


@pytest.mark.parametrize("name", NAMES)
def test_what_the_code_imports_is_locked_for_it(name: str) -> None:
    """Else a target would fail at an import, where only its own lock file was installed."""
    start = [path for root in ROOTS[name] for path in files(ROOT / root)]
    # `make test` installs less than the benchmarks take: what is not here has its module's name.
    distributions = packages_distributions()
    missing = {
        (package, path.relative_to(ROOT).as_posix())
        for path, module in foreign_imports(start)
        for package in map(canonicalize_name, distributions.get(module, [module]))
        if package not in locked(name)
    }
    assert missing == set()


def files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def foreign_imports(start: list[Path]) -> Iterator[tuple[Path, str]]:
    """Each module that is neither Python's nor ours, and who imports it, from `start` on."""
    waiting, seen = list(start), set(start)
    while waiting:
        path = waiting.pop()
        for module in imports(path):
            first = module.partition(".")[0]
            if (ROOT / first).is_dir():
                ours = [
                    ROOT / f"{module.replace('.', '/')}{end}" for end in (".py", "/__init__.py")
                ]
                new = {path for path in ours if path.exists()} - seen
                waiting += new
                seen |= new
            elif first not in sys.stdlib_module_names:
                yield path, first


def imports(path: Path) -> Iterator[str]:
    """The modules a file imports anywhere in it; of what may be a name or a module, both."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
