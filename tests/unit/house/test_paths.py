"""The paths through the code that docs/architecture.md lists lead along functions that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTIONS = PAGE.split("\n## ")
STEP = re.compile(r"^    (\S+\.py):([\w.]+)", re.MULTILINE)
COUNTS = re.compile(r"(\d+) files, (\d+) functions")
STEPS = sorted(set(STEP.findall(PAGE)))


@cache
def names_of(path: str) -> set[str]:
    """Functions of a module, and methods of its classes as `Class.method`."""
    names = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


@pytest.mark.parametrize(("path", "name"), STEPS, ids=str)
def test_step_of_a_path_is_a_function(path: str, name: str) -> None:
    """Who moves or renames one of them mends the page."""
    assert (ROOT / path).is_file()
    assert name in names_of(path)


def test_paths_count_their_steps() -> None:
    """Each path says how many files and functions it has, so that it is seen when one grows."""
    said = {section.split("\n", 1)[0]: COUNTS.search(section) for section in SECTIONS}
    counts = {title: (int(found[1]), int(found[2])) for title, found in said.items() if found}
    steps = {section.split("\n", 1)[0]: STEP.findall(section) for section in SECTIONS}

    found = {title: (len({path for path, _ in each}), len(each)) for title, each in steps.items() if each}

    assert counts == found
    assert len(found) == 3
