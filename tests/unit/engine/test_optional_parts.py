"""Packages that the engine lacks are named, whatever it says instead; they are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that is not loaded; it tells a gate that it begins, waits, and fails if the gate says so."""
    (tmp_path / "probe_late.py").write_text(
        "import probe_gate\nHALF = 1\nprobe_gate.begun.set()\nassert probe_gate.go.wait(10)\n"
        "if probe_gate.fails:\n    raise RuntimeError('no')\nX = 7\n",
        encoding="utf-8",
    )
    gate = SimpleNamespace(begun=threading.Event(), go=threading.Event(), fails=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "probe_gate", gate)
    monkeypatch.setitem(sys.modules, "probe_late", None)
    del sys.modules["probe_late"]
    optional_parts.load_late(("probe_late",))
    return sys.modules["probe_late"]


def test_special_names_load_nothing(late: ModuleType) -> None:
    """Tools such as `inspect` ask each module for them."""
    assert not hasattr(late, "__wrapped__")
    assert not sys.modules["probe_gate"].begun.is_set()


def test_module_that_fails_to_load_is_tried_again(late: ModuleType) -> None:
    """It is no empty module afterwards."""
    gate: Any = sys.modules["probe_gate"]
    gate.go.set()
    gate.fails = True
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            _ = late.X
    assert "HALF" not in vars(late)
    gate.fails = False

    assert late.X == 7


def test_no_thread_sees_a_half_loaded_module(late: ModuleType) -> None:
    """The second one waits for the first one."""
    gate: Any = sys.modules["probe_gate"]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(getattr, late, "X")
        assert gate.begun.wait(10)
        second = pool.submit(getattr, late, "X")
        with pytest.raises(TimeoutError):
            second.result(0.05)
        gate.go.set()

        assert (first.result(10), second.result(10)) == (7, 7)
