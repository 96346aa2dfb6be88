"""No private part of a library is used. This finds what ruff's SLF001 (`thing._part`) does not."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("contract", "runtime", "salt", "collector", "flusher", "rotation", "embedded", "bench")


def private_parts(tree: ast.AST) -> Iterator[str]:
    """The private names that are imported, or called on a base class."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{each.name}" for each in names if _is_private(each.name))
                yield from (module for part in module.split(".") if _is_private(part))
            case ast.Import(names=names):
                yield from (
                    each.name for each in names if any(map(_is_private, each.name.split(".")))
                )
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name):
                if _is_private(name):
                    yield f"super().{name}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_nothing_private_is_used() -> None:
    assert {*private_parts(ast.parse("from a._b import _c; import d._e; super()._f()"))} == {
        *("a._b._c", "a._b", "d._e", "super()._f")
    }
    found = {
        f"{path.relative_to(ROOT)}: {part}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for part in private_parts(ast.parse(path.read_text()))
    }
    assert found == set()
