"""Writes the tables of "Where things are" in CONTRIBUTING.md: `make reference`.

Who may import whom, and what is pure, comes from the tables that `test_imports.py` holds. What a folder holds
is the first sentence of its `__init__.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.house.test_imports import LAYERS, PURE, ROOT

PAGE = ROOT / "CONTRIBUTING.md"
BEGIN = "<!-- The tables are made by `make reference`. -->\n"
END = "<!-- End of the tables. -->\n"
GENERATED = ("api", "internal", "wire")


def first_sentence(module: Path) -> str:
    """How the docstring of a module begins, as a cell of a table."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s|\n\n", text)[0].replace("\n", " ").replace("|", "\\|")


def pure_part(folder: Path) -> str:
    """Whether a folder is pure, or which of its modules or folders are."""
    name = ".".join(folder.relative_to(ROOT).parts)
    if name in PURE:
        return "yes"
    inside = [pure.removeprefix(f"{name}.") for pure in PURE if pure.rpartition(".")[0] == name]
    return ", ".join(f"`{part}/`" if (folder / part).is_dir() else f"`{part}.py`" for part in inside)


def shared_rows() -> Iterator[str]:
    """The layers of `quakegrid/`, from the ground up."""
    for layer, allowed in LAYERS.items():
        folder = ROOT / "quakegrid" / layer
        is_folder = folder.is_dir()
        name = f"{layer}/" if is_folder else f"{layer}.py"
        if layer in GENERATED:
            says = f"Generated from `protos/quakegrid/{layer}/`."
        else:
            says = first_sentence(folder / "__init__.py" if is_folder else folder.with_suffix(".py"))
        may = ", ".join(f"`{other}`" for other in LAYERS if other in allowed)
        yield f"| `{name}` | {says} | {may or '-'} | {pure_part(folder)} |"


def service_rows() -> Iterator[str]:
    """The folders of `quakegrid/services/`, each behind the one that holds it."""
    for package in sorted((ROOT / "quakegrid" / "services").rglob("__init__.py")):
        folder = package.parent
        parts = folder.relative_to(ROOT).parts[2:]
        if parts:
            yield f"| `{'/'.join(parts)}/` | {first_sentence(package)} | {pure_part(folder)} |"


def tables() -> str:
    """Both tables, as the page has them."""
    rows = [
        "",
        "| in `quakegrid/` | what it holds | may import, beside `errors` | pure |",
        "|---|---|---|---|",
        *shared_rows(),
        "",
        "| in `quakegrid/services/` | what it holds | pure |",
        "|---|---|---|",
        *service_rows(),
        "",
    ]
    return "".join(f"{row}\n" for row in rows)


def with_tables(text: str) -> str:
    """A page whose tables are those of the code."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
