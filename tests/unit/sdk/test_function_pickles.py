"""When the pickle of a function may be used again."""

from __future__ import annotations

import math
import pickle
from types import FunctionType
from typing import Any

import pytest

from quakegrid.sdk import function_pickles, pickles


def made_in_main(source: str, **names: Any) -> FunctionType:
    """The function `f` of some source, as if it had been typed at a prompt."""
    found: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, found)
    function = found["f"]
    assert isinstance(function, FunctionType)
    return function


@pytest.fixture
def dump_count(monkeypatch: pytest.MonkeyPatch) -> list[FunctionType]:
    """The functions that were really pickled."""
    dumped: list[FunctionType] = []
    dump = pickles.dump_function

    def count(function: FunctionType) -> bytes:
        dumped.append(function)
        return dump(function)

    monkeypatch.setattr(pickles, "dump_function", count)
    return dumped


@pytest.mark.parametrize("source", ["def f(): return 1", "def f(x): return math.sin(x) + LIMIT + len('a')"])
def test_function_is_pickled_once_while_nothing_changes(source: str, dump_count: list[FunctionType]) -> None:
    """Modules, numbers and builtins are compared by identity."""
    function = made_in_main(source, math=math, LIMIT=7)

    first, second = function_pickles.dump(function), function_pickles.dump(function)

    assert (first, dump_count) == (second, [function])


def test_global_that_changed_travels() -> None:
    """As somebody at a prompt expects."""
    function = made_in_main("def f(): return LIMIT", LIMIT=7)
    before = pickle.loads(function_pickles.dump(function))()
    function.__globals__["LIMIT"] = 8

    assert (before, pickle.loads(function_pickles.dump(function))()) == (7, 8)


def test_global_that_was_not_there_travels_when_it_is() -> None:
    """A helper that is defined later is found."""
    function = made_in_main("def f(): return LATER")
    function_pickles.dump(function)
    function.__globals__["LATER"] = 9

    assert pickle.loads(function_pickles.dump(function))() == 9


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): return ITEMS", {"ITEMS": [1]}),
        ("def f(): return g()", {"g": lambda: 1}),
        ("def f(x=[]): return x", {}),
        ("def f(): return 1\nf.note = []", {}),
    ],
)
def test_what_may_change_inside_is_pickled_each_time(
    source: str, names: dict[str, Any], dump_count: list[FunctionType]
) -> None:
    """Lists, other functions, default values and attributes."""
    function = made_in_main(source, **names)

    function_pickles.dump(function)
    function_pickles.dump(function)

    assert dump_count == [function, function]
