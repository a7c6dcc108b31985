"""Writes the tables of "Where things are" in CONTRIBUTING.md: `make reference`.

The layers are those that the tests hold; what a folder holds is the first sentence of its `__init__.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.house.test_imports import LAYERS, PURE, ROOT

PAGE = ROOT / "CONTRIBUTING.md"
BEGIN = "<!-- tables: make reference -->\n"
END = "<!-- end of tables -->\n"


def first_sentence(path: Path) -> str:
    """How the docstring of a module or folder begins, or nothing."""
    module = path if path.is_file() else path / "__init__.py"
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s|\n\n", text)[0].replace("\n", " ")


def generated(layer: str) -> str:
    """Generated code has no docstring of its own."""
    return f"Generated from `protos/quakegrid/{layer}/`."


def shared_rows() -> Iterator[str]:
    """The layers of `quakegrid/`, from the ground up."""
    for layer, allowed in LAYERS.items():
        path = ROOT / "quakegrid" / layer
        is_folder = path.is_dir()
        name = f"`{layer}/`" if is_folder else f"`{layer}.py`"
        says = first_sentence(path if is_folder else path.with_suffix(".py")) if layer not in GENERATED else ""
        may = ", ".join(f"`{other}`" for other in LAYERS if other in allowed)
        yield f"| {name} | {says or generated(layer)} | {may or '-'} |"


def service_rows() -> Iterator[str]:
    """The folders of `services/`; those that decide are marked."""
    for package in sorted((ROOT / "services").rglob("__init__.py")):
        folder = package.parent.relative_to(ROOT)
        if len(folder.parts) > 1:
            is_pure = any(str(folder).replace("/", ".") == name for name in PURE)
            yield f"| `{'/'.join(folder.parts[1:])}/` | {first_sentence(package.parent)} | {'yes' if is_pure else ''} |"


GENERATED = ("api", "internal", "wire")


def tables() -> str:
    """Both tables, as the page has them."""
    shared = [
        "| in `quakegrid/` | what it holds | may import, beside `errors` |",
        "|---|---|---|",
        *shared_rows(),
    ]
    services = ["| in `services/` | what it holds | pure |", "|---|---|---|", *service_rows()]
    return "\n".join(["", *shared, "", *services, "", ""])


def with_tables(text: str) -> str:
    """A page whose tables are those of the code."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
