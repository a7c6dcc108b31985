"""The limits on modules, classes and functions, and one class for each name; where ruff has no rule."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.unit.house.test_imports import MODULES, ROOT

MOST_LINES = {"module": 400, "class": 200, "function": 60}
MOST_PARAMETERS = 6
MOST_COMPLEX = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_nothing_is_over_a_limit() -> None:
    """What is too large is split along its subjects; no table lists exceptions."""
    assert found_over() == {}


def test_sizes_are_counted_as_people_count_them() -> None:
    """`self` is no parameter; a decorator is no line of what it decorates."""
    source = "class A:\n    @property\n    def b(self, c, /, d, *e, f, **g):\n        return 1\n"

    found = dict(measured("m.py", source))

    assert found == {
        "module m.py": 4,
        "class m.py:A": 4,
        "function m.py:A.b": 2,
        "parameters of m.py:A.b": 5,
    }


def found_over() -> dict[str, int]:
    """What is over a limit: subject to size."""
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    sizes = dict(over_lines_and_parameters()) | dict(complex_functions(trees))
    nodes = (node for tree in trees.values() for node in ast.walk(tree))
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    return sizes | {f"classes named {name}": count for name, count in names.items() if count > 1}


def over_lines_and_parameters() -> Iterator[tuple[str, int]]:
    """What has too many of them: subject and size."""
    limits = MOST_LINES | {"parameters": MOST_PARAMETERS}
    for path in MODULES:
        for subject, size in measured(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")):
            if size > limits[subject.split()[0]]:
                yield subject, size


def measured(path: str, source: str) -> Iterator[tuple[str, int]]:
    """A module and its parts: subject and size."""
    yield f"module {path}", source.count("\n")
    for name, node in named_parts(ast.parse(source)):
        assert node.end_lineno is not None
        size = node.end_lineno - node.lineno + 1
        if isinstance(node, ast.ClassDef):
            yield f"class {path}:{name}", size
        else:
            yield f"function {path}:{name}", size
            yield f"parameters of {path}:{name}", _parameter_count(node)


def named_parts(parent: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Classes and functions, also those inside others, by their qualified names."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | Function):
            yield f"{outer}{node.name}", node
            yield from named_parts(node, f"{outer}{node.name}.")
        else:
            yield from named_parts(node, outer)


def _parameter_count(node: Function) -> int:
    found = node.args
    names = [arg.arg for arg in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    variable = [arg for arg in (found.vararg, found.kwarg) if arg is not None]
    return len([name for name in names if name not in {"self", "cls"}]) + len(variable)


def complex_functions(trees: dict[str, ast.Module]) -> Iterator[tuple[str, int]]:
    """Functions with more branches than the limit, as ruff counts them."""
    command = [Path(sys.executable).with_name("ruff"), "check", "--select=C901", "--output-format=json"]
    limit = ["--config", f"lint.mccabe.max-complexity={MOST_COMPLEX}", "--exit-zero", "--no-cache"]
    done = subprocess.run(
        [*command, *limit, "quakegrid"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for item in json.loads(done.stdout):
        found = re.search(r"\((\d+) > ", item["message"])
        assert found is not None, item["message"]
        path, row = str(Path(item["filename"]).relative_to(ROOT)), item["location"]["row"]
        (name,) = (name for name, node in named_parts(trees[path]) if node.lineno == row)
        yield f"branches of {path}:{name}", int(found[1])
