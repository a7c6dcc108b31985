"""What the manual and the sources name in the code is there."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "background" / "call-paths.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
SECTIONS = PAGE.split("\n## ")
STEP = re.compile(r"^(\S+\.py):([\w.]+)", re.MULTILINE)
COUNTS = re.compile(r"(\d+) files, (\d+) functions")
PLACE = re.compile(r"\| `(\S+\.py)(?::(\w+))?` \|$", re.MULTILINE)
PLACES = sorted(set(PLACE.findall(GLOSSARY)))
OURS = r"quakegrid|tests|protos|docs|deploy|benchmarks"
PATH = re.compile(rf"`((?:{OURS})/[\w./-]+)`")
MODULE = re.compile(r"`(?:python -m )?((?:quakegrid|tests)(?:\.[a-z_]\w*)+)[` ]")
MADE_LATER = ("deploy/driver", "deploy/secrets", "deploy/secrets/authkey")
STEPS = sorted(set(STEP.findall(PAGE)))


@cache
def names_of(path: str) -> set[str]:
    """Functions and classes of a module, and methods as `Class.method`."""
    names = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


def is_text(path: Path) -> bool:
    """Whether people wrote this file, about the code as it is: the changelog tells of earlier paths."""
    is_ours = path.suffix in {".md", ".py", ".proto", ".sh", ".yaml", ".yml"} and "_pb2" not in path.name
    return is_ours and path.name != "CHANGELOG.md"


def is_there(place: str) -> bool:
    """Whether a path exists, or would be a module's or that of a name in a module."""
    path = ROOT / place
    return place in MADE_LATER or any(
        each.exists() for each in (path, path.with_suffix(".py"), path.parent.with_suffix(".py"))
    )


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


@pytest.mark.parametrize(("path", "name"), PLACES, ids=str)
def test_word_of_the_glossary_is_where_it_says(path: str, name: str) -> None:
    """A module, or a class in it."""
    assert (ROOT / path).is_file()
    assert not name or name in names_of(path)


def test_every_word_of_the_glossary_has_a_place() -> None:
    """Each row of its tables ends with one."""
    rows = [
        line for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| word ")
    ]

    assert [row for row in rows if not PLACE.search(row)] == []


@pytest.mark.parametrize("top", ["docs", "protos", "quakegrid", "tests", "benchmarks", "deploy", "*.md"])
def test_paths_and_modules_in_words_exist(top: str) -> None:
    """What stands in backticks and looks like a path or a module of ours is one."""
    lost = []
    for file in filter(is_text, [path for found in ROOT.glob(top) for path in (found, *found.rglob("*"))]):
        text = file.read_text(encoding="utf-8")
        places = [*PATH.findall(text), *(name.replace(".", "/") for name in MODULE.findall(text))]
        lost += [f"{file.relative_to(ROOT)}: {place}" for place in places if not is_there(place)]

    assert lost == []


def test_every_kind_of_file_lets_an_upgrade_install_the_package_anew() -> None:
    """A newer clone is installed over an installation only if one of the files changed that uv is told of."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]
    pattern = settings["cache-keys"][-1]["file"]
    kinds = set(pattern.partition("{")[2].rstrip("}").split(","))

    ours = {path.suffix[1:] for path in (ROOT / "quakegrid").rglob("*") if path.is_file()}

    assert pattern.startswith("quakegrid/**/*.{")
    assert kinds == ours - {"pyc", "pyi"}
