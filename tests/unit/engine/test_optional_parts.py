"""Packages that the engine lacks are named, whatever it says instead; they are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quakegrid.engine import optional_parts
from quakegrid.engine.driver import stops

FRAME = 'Traceback (most recent call last):\n  File "{file}", line 170, in analyze\n    {line}\n'
NETWORKX = "G_original = nx.from_pandas_edgelist("
ENGINE_FILE = "/opt/quakegrid/venv/lib/python3.11/site-packages/openquake/risklib/connectivity.py"
NO_ATTRIBUTE = "AttributeError: 'NoneType' object has no attribute '{name}'"


def trace(line: str, words: str, file: str = ENGINE_FILE) -> str:
    """A traceback as Python prints it."""
    return FRAME.format(file=file, line=line) + "         ^^^^^^^^^^^\n" + words


@pytest.mark.parametrize(
    ("line", "name", "package", "installs"),
    [
        (NETWORKX, "from_pandas_edgelist", "networkx", "'quakegrid[engine-optional]'"),
        ("if nx.has_path(G, j, i):", "has_path", "networkx", "'quakegrid[engine-optional]'"),
        (
            "opt = onnxruntime.SessionOptions()",
            "SessionOptions",
            "onnxruntime",
            "'quakegrid[engine-optional]'",
        ),
        ("self.att = list(fiona.open(path))", "open", "fiona", "'fiona'"),
        ("rtgm = rtgmpy.GroundMotionHazard.from_dict(d)", "GroundMotionHazard", "rtgmpy", "'rtgmpy'"),
    ],
)
def test_package_that_is_none_is_named(line: str, name: str, package: str, installs: str) -> None:
    """By the source line that uses it; with the command that installs it."""
    words = optional_parts.find_missing(trace(line, NO_ATTRIBUTE.format(name=name)))

    assert words.startswith(f"the engine needs the Python package {package} for ")
    assert words.endswith(f"on all machines: pip install {installs}")


@pytest.mark.parametrize("module", ["plotext", "plotext.core"])
def test_module_that_the_engine_cannot_import_is_named(module: str) -> None:
    """Any one, also where the engine imports it in the middle of a function."""
    text = trace(f"import {module}", f"ModuleNotFoundError: No module named '{module}'")

    words = optional_parts.find_missing(text)

    assert words.startswith("the engine needs the Python package plotext, and it is not installed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ValueError: bad",
        NO_ATTRIBUTE.format(name="has_path"),
        trace("x = oq.from_pandas_edgelist(", NO_ATTRIBUTE.format(name="from_pandas_edgelist")),
        trace(NETWORKX, NO_ATTRIBUTE.format(name="has_path")),
        trace(NETWORKX, NO_ATTRIBUTE.format(name="from_pandas_edgelist"), "/home/ann/model/connectivity.py"),
        trace("import plotext", "ModuleNotFoundError: No module named 'plotext'", "/home/ann/plots.py"),
        trace("from openquake import fnm", "ModuleNotFoundError: No module named 'openquake.fnm'"),
    ],
)
def test_other_errors_are_left_alone(text: str) -> None:
    """Among them those of people's own code, and None where something else was to be."""
    assert optional_parts.find_missing(text) == ""


def test_error_that_a_task_sent_is_explained_as_the_drivers_own() -> None:
    """The engine raises it in the driver, with the traceback of the worker as its text."""
    exc = AttributeError("\n" + trace(NETWORKX, NO_ATTRIBUTE.format(name="from_pandas_edgelist")))

    assert stops.judge(exc, "").reason.startswith("the engine needs the Python package networkx")


def test_error_of_another_kind_is_not_looked_into() -> None:
    """It may quote what it likes."""
    exc = ValueError(trace(NETWORKX, NO_ATTRIBUTE.format(name="from_pandas_edgelist")))

    assert optional_parts.explain(exc) == ""


def test_late_module_is_loaded_when_it_is_used(tmp_path: Path) -> None:
    """Not when it is imported; one that is missing stays away, one that is loaded stays as it is."""
    package = tmp_path / "probe_part"
    package.mkdir()
    (package / "__init__.py").write_text(
        "print('loaded')\nfrom probe_part.inner import X\n", encoding="utf-8"
    )
    (package / "inner.py").write_text("X = 7\n")
    program = (
        "import sys, json\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from quakegrid.engine import optional_parts\n"
        "optional_parts.load_late(('probe_part', 'no_such_part', 'json'))\n"
        "import probe_part\n"
        "print('imported', 'no_such_part' in sys.modules, sys.modules['json'] is json)\n"
        "print(probe_part.X)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["imported", "False", "True", "loaded", "7"]
