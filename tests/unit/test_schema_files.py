"""Schema, statements and scripts: every file has its place and its user."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import flusher.postgres
from flusher.postgres.migrate import migrations
from flusher.postgres.statements import statement

POSTGRES = Path(flusher.postgres.__file__).parent
ROOT = POSTGRES.parents[1]
STATEMENTS = sorted(file.stem for file in (POSTGRES / "sql").iterdir())
MODULES = sorted((ROOT / "flusher").rglob("*.py"))


@cache
def texts(file: Path) -> list[str]:
    """Every text constant in a module."""
    return [
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_migrations_are_numbered_from_1_without_gaps_or_repeats() -> None:
    names = [migration.name for migration in migrations()]
    assert [name[:5] for name in names] == [f"{n:04d}_" for n in range(1, len(names) + 1)]
    assert names


def test_a_migrations_name_says_what_it_does() -> None:
    for migration in migrations():
        assert re.fullmatch(r"\d{4}_[a-z0-9]+(_[a-z0-9]+)*", migration.name)


def test_the_folder_holds_migrations_only_and_all_are_found() -> None:
    files = {file.name for file in (POSTGRES / "schema").iterdir()}
    assert files == {f"{migration.name}.sql" for migration in migrations()}


def test_a_migration_can_be_run_within_a_transaction() -> None:
    """`migrate` runs all in one, together with the records that they were run."""
    for migration in migrations():
        code = re.sub(r"--.*|'(?:[^']|'')*'", "", migration.sql)
        # Within a function's body BEGIN and END are blocks; alone on a line they'd be statements.
        outside = re.sub(r"\$(\w*)\$.*?\$\1\$", "", code, flags=re.DOTALL)
        forbidden = r"(?im)^\s*(begin|commit|rollback|vacuum|start transaction)\b|\bconcurrently\b"
        assert not re.search(forbidden, outside), migration.name
        assert outside.strip()


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_used(name: str) -> None:
    assert any(name in texts(module) for module in MODULES)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_one_statement(name: str) -> None:
    """Only one can have arguments and a result."""
    text = re.sub(r"--.*|'(?:[^']|'')*'", "", statement(name)).strip().rstrip(";")
    assert text
    assert ";" not in text


def test_every_statement_that_is_asked_for_exists() -> None:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="statement"), args=[ast.Constant(value=str() as name)]
                ):
                    assert name in STATEMENTS, f"{module.name} asks for {name}"


def test_every_script_of_redis_is_used() -> None:
    scripts = [*(ROOT / "flusher").rglob("*.lua"), *(ROOT / "salt").rglob("*.lua")]
    assert scripts
    for script in scripts:
        beside = script.parent.glob("*.py")
        assert any(script.name in texts(module) for module in beside), script
