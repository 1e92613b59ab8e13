"""The modules that a module imports, read from the source: the code on which a result depends."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["PLUMBING", "closure", "code_of", "imported", "source_of"]

_ROOT = Path(__file__).parents[1]

PLUMBING = frozenset(
    {
        "core.files",
        "core.imports",
        "core.layout",
        "core.memory",
        "core.params",
        "core.pool",
        "core.process",
        "core.store",
        "models.registry",
        "plan",
    }
)
"""Modules that no result depends on: they find names, folders and finished work; what they hand on is compared."""


def closure(*modules: str) -> list[str]:
    """Return modules and all that they import, sorted; :data:`PLUMBING`, and what that imports, is left out.

    Args:
        modules: dotted, below this package, such as ``training.trainer``
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in PLUMBING:
            found.add(name)
            waiting += imported(name)
    return sorted(found)


def source_of(module: str) -> Path:
    """Return the file of a module of this package."""
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_of(module: str) -> str:
    """Return what a module of this package does, without comments and docstrings: editing prose recomputes nothing."""
    return _without_prose(source_of(module).read_text(encoding="utf-8"))


@cache
def _without_prose(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not _is_prose(statement)]
    return ast.dump(tree)


def _is_prose(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def imported(module: str, *, types: bool = False) -> tuple[str, ...]:
    """Return the modules of this package that one imports, anywhere in it.

    Args:
        module: dotted, below this package
        types: whether those count that are imported for type checking alone, and so never run
    """
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if types else _run(tree)
    return tuple(dict.fromkeys(name for node in nodes for name in _names(node)))


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)


def _names(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.ImportFrom) or not node.module or node.module.split(".")[0] != _ROOT.name:
        return
    package = node.module.split(".")[1:]
    for alias in node.names:
        parts = [*package, alias.name]
        if source_of(".".join(parts)).exists():
            yield ".".join(parts)
        elif package:
            yield ".".join(package)
