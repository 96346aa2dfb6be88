"""Migrations, statements and scripts: every file is found and used."""

import ast
import re
from pathlib import Path

import flusher.postgres
from flusher.postgres.migrate import migrations

POSTGRES = Path(flusher.postgres.__file__).parent
ROOT = POSTGRES.parents[1]


def test_migrations_are_numbered_from_1_without_gaps_and_all_files_are_found() -> None:
    names = [migration.name for migration in migrations()]
    assert [name[:5] for name in names] == [f"{n:04d}_" for n in range(1, len(names) + 1)]
    assert all(re.fullmatch(r"\d{4}_[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)
    assert {f"{name}.sql" for name in names} == {
        file.name for file in (POSTGRES / "schema").iterdir()
    }


def test_a_migration_can_be_run_within_a_transaction() -> None:
    """`migrate` runs all of them in one transaction, and records them in it."""
    for migration in migrations():
        code = re.sub(r"--.*|'(?:[^']|'')*'", "", migration.sql)
        # In a function's body BEGIN and END are blocks, elsewhere statements.
        outside = re.sub(r"\$(\w*)\$.*?\$\1\$", "", code, flags=re.DOTALL)
        forbidden = r"(?im)^\s*(begin|commit|rollback|vacuum|start transaction)\b|\bconcurrently\b"
        assert not re.search(forbidden, outside), migration.name
        assert outside.strip()


def test_every_statement_is_used() -> None:
    trees = [ast.parse(file.read_text()) for file in (ROOT / "flusher").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert {file.stem for file in (POSTGRES / "sql").iterdir()} <= texts
