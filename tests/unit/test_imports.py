"""The house rules on who imports whom, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for top in ("quakegrid", "services")
    for path in (ROOT / top).rglob("*.py")
    if "_pb2" not in path.name
)
# Only the template loads the seams: importing them means importing the engine.
ENGINE_GATE = "services.agent.preload"
# Who imports pyzmq elsewhere may be the first one, and gets slow encryption.
FAST_ZMQ = "quakegrid.curve"


def module_name(path: Path) -> str:
    """The import path, which equals the file path."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, package: str) -> bool:
    """Whether a name is the package or below it."""
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_imports_only_what_its_place_allows(path: Path) -> None:
    """`quakegrid` knows no service, services know not each other, the engine is behind its gate."""
    name = module_name(path)
    own_service = ".".join(name.split(".")[:2]) if is_in(name, "services") else None
    wrong = []
    for found in imports(path):
        if is_in(found, "services") and not (own_service and is_in(found, own_service)):
            wrong.append(found)
        if is_in(found, "quakegrid.engine") and name != ENGINE_GATE and not is_in(name, "quakegrid.engine"):
            wrong.append(found)
        if is_in(found, "openquake") and not is_in(name, "quakegrid.engine"):
            wrong.append(found)
        if is_in(found, "zmq") and name != FAST_ZMQ:
            wrong.append(found)
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_says_what_it_is(path: Path) -> None:
    """Every module opens with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or not path.read_text(
        encoding="utf-8"
    )
