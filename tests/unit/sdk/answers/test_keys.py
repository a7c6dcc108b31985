"""Keys of calls: equal for equal calls, in any process, and others for others."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quakegrid.sdk.answers import contents, keys, versions  # noqa: F401 - for the script
from quakegrid.sdk.answers.contents import UnknownContentError
from quakegrid.sdk.answers.keys import CallKeys

NAMES = {"installed", "numpy", *sys.stdlib_module_names} - {"__main__"}
HEAD = "import functools, math\nLIMIT = 3\nTABLE = [1, 2]\n"
FUNCTION = "def function(x, *, y=2):\n    return [x + y + LIMIT for _ in range(3)]\n"


def version_of(name: str) -> str | None:
    """Only these are installed."""
    return "1.0" if name.partition(".")[0] in NAMES else None


def made(source: str, name: str = "function", module: str = "ours") -> Any:
    """What source defines, as it is when a module is loaded."""
    found = types.ModuleType(module)
    exec(compile(HEAD + source, "ours.py", "exec"), vars(found))
    return vars(found)[name]


@pytest.fixture
def call_keys() -> CallKeys:
    """With installed modules that are always the same."""
    return CallKeys(version_of, lambda name: f"source of {name}")


def key(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    """By somebody who knows nothing of before."""
    return CallKeys(version_of, lambda name: f"source of {name}").of(function, args, kwargs)


def value_key(value: Any) -> bytes:
    """What an argument adds."""
    return key(len, value)


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Site:
    """An object with state."""

    name: str
    depths: list[float]

    def deepest(self) -> float:
        """A method."""
        return max(self.depths)


class Odd:
    """Has each kind of part that a class may have."""

    __slots__ = ("slot",)
    table: Any = types.MappingProxyType({"a": 1})

    @property
    def deep(self) -> int:
        """A property."""
        return 1

    @functools.cached_property
    def kept(self) -> int:
        """A property that is kept."""
        return 1

    @staticmethod
    def fixed() -> int:
        """A static method."""
        return 1

    @classmethod
    def own(cls) -> int:
        """A class method."""
        return 1


class Broken:
    """An object that cannot be pickled."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ZeroDivisionError(str(protocol))


# --- functions


@pytest.mark.parametrize(
    "same",
    [
        "\n\n\n# a comment\n" + FUNCTION,
        FUNCTION.replace("return", "# why\n\n    return"),
        "OTHER = 7\n" + FUNCTION,
    ],
    ids=["lines above", "lines within", "a global that it does not use"],
)
def test_function_that_does_the_same_is_the_same(same: str) -> None:
    """Wherever it is, whatever is said about it, and whether or not it was made warm by calls."""
    function = made(FUNCTION)
    before = key(function, 1)
    for _ in range(100):
        function(1)

    assert key(function, 1) == before
    assert key(made(same), 1) == before


@pytest.mark.parametrize(
    "other",
    [
        FUNCTION.replace("x + y", "x - y"),
        FUNCTION.replace("y=2", "y=3"),
        FUNCTION.replace("range(3)", "range(4)"),
        FUNCTION.replace("LIMIT", "len"),
        FUNCTION + "LIMIT = 4\n",
        FUNCTION + "function.note = 1\n",
        FUNCTION.replace("return", "global SEEN; SEEN = 1; return") + "SEEN = 1\n",
    ],
)
def test_function_that_may_do_something_else_is_another(other: str) -> None:
    """Instructions, defaults, constants within, globals and attributes."""
    assert key(made(other), 1) != key(made(FUNCTION), 1)


def test_function_has_a_name_and_a_module() -> None:
    """Two of them with the same instructions may be told apart by what they print or pickle."""
    assert key(made(FUNCTION, module="others"), 1) != key(made(FUNCTION), 1)
    assert key(made(FUNCTION.replace("function", "other"), "other"), 1) != key(made(FUNCTION), 1)


def test_code_that_is_called_counts() -> None:
    """Functions, classes and modules of one's own, and what they refer to in turn."""
    source = (
        "def deepest(x):\n    return x + {number}\n"
        "def helper(x):\n    return function if x else deepest(x)\n"
        "class Tool:\n    def use(self, x):\n        return helper(x)\n"
        "def function(x):\n    return Tool().use(x), helper, helper\n"
    )

    assert key(made(source.format(number=1)), 1) == key(made(source.format(number=1)), 1)
    assert key(made(source.format(number=1)), 1) != key(made(source.format(number=2)), 1)


def test_only_what_a_function_takes_from_a_module_counts() -> None:
    """A module of one's own is known by that; what it imports within by its source."""

    def with_module(**parts: Any) -> bytes:
        function = made("def function(x):\n    import late\n    return tools.limit(x.real) + tools.SIZE\n")
        tools = types.ModuleType("tools")
        vars(tools).update({"limit": made(FUNCTION), "SIZE": 1, "UNUSED": 1} | parts)
        function.__globals__["tools"] = tools
        return key(function, 1)

    assert with_module() == with_module(UNUSED=2)
    assert with_module() != with_module(SIZE=2)
    assert with_module() != with_module(limit=made(FUNCTION.replace("x + y", "x - y")))
    late = made("def function(x):\n    import late\n    return late\n")
    assert CallKeys(version_of, str.upper).of(late, (), {}) != CallKeys(version_of, str.title).of(
        late, (), {}
    )


def test_installed_code_is_known_by_its_version() -> None:
    """Whatever globals it has; another version is other code."""
    one, two = (made(FUNCTION + f"LIMIT = {number}\n", module="installed") for number in (1, 2))
    calls = made("def function(x):\n    return math.sin(x) + Tool(x)\n")
    calls.__globals__["Tool"] = made("class Tool:\n    pass\n", "Tool", "installed")
    newer = CallKeys(lambda name: "2.0" if name == "installed" else version_of(name), str)

    assert key(one, 1) == key(two, 1)
    assert newer.of(one, (1,), {}) != key(one, 1)
    assert newer.of(calls, (1,), {}) != key(calls, 1)


def test_closures_partials_methods_and_wrappers_are_known_by_what_is_in_them() -> None:
    """A method by its object, too, and a wrapper by the function, not by what it has answered."""
    inner = "    def inner(x):\n        return (x + a, late) if x else None\n"
    source = f"def make(a):\n{inner}    {{}}\n    return inner\n"
    make = made(source.format("late = a"), "make")
    empty = made(source.format("late = a\n    del late"), "make")
    cached, squared = (
        functools.lru_cache(made(FUNCTION)),
        functools.lru_cache(made(FUNCTION.replace("+ y", "* y"))),
    )
    before = key(cached, 1)
    cached(1)

    assert key(make(1), 1) == key(make(1), 1)
    assert key(make(1), 1) != key(make(2), 1)
    assert key(empty(1), 1) != key(make(1), 1)
    assert key(functools.partial(pow, 2), 3) != key(functools.partial(pow, 3), 3)
    assert key(Site("a", [1.0]).deepest) == key(Site("a", [1.0]).deepest)
    assert key(Site("a", [1.0]).deepest) != key(Site("a", [2.0]).deepest)
    assert key(cached, 1) == before
    assert key(squared, 1) != before


def test_parts_of_a_class_count() -> None:
    """Each kind of them."""
    source = "class Tool(dict):\n    size = {}\n    def use(self):\n        return 1\n"

    assert value_key(Odd()) == value_key(Odd())
    assert value_key(made(source.format(1), "Tool")()) == value_key(made(source.format(1), "Tool")())
    assert value_key(made(source.format(1), "Tool")()) != value_key(made(source.format(2), "Tool")())


def test_key_of_a_function_follows_what_it_refers_to(call_keys: CallKeys) -> None:
    """It is remembered, and made again when something was exchanged, or may have changed by itself."""
    function = made("def inner(x):\n    return x\ndef function(x):\n    return inner(x) + LIMIT\n")
    table = made("def function(x):\n    return x in TABLE\n")
    late = made("def function(x):\n    return NEW\n")

    seen = {call_keys.of(function, (1,), {}), call_keys.of(function, (1,), {})}
    function.__globals__["LIMIT"] = 9
    seen.add(call_keys.of(function, (1,), {}))
    function.__globals__["inner"].__code__ = (lambda x: x + 1).__code__
    seen.add(call_keys.of(function, (1,), {}))
    function.note = 1
    seen.add(call_keys.of(function, (1,), {}))
    before = call_keys.of(table, (1,), {})
    table.__globals__["TABLE"].append(7)
    missing = call_keys.of(late, (1,), {})
    late.__globals__["NEW"] = 1

    assert len(seen) == 4
    assert call_keys.of(table, (1,), {}) != before
    assert call_keys.of(late, (1,), {}) != missing


def test_class_that_gets_another_method_is_another(call_keys: CallKeys) -> None:
    """Also while the program runs."""
    tool = made("class Tool:\n    def use(self):\n        return 1\n", "Tool")
    before = call_keys.of(len, (tool(),), {})

    tool.more = 1

    assert call_keys.of(len, (tool(),), {}) != before


def test_many_functions_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch, call_keys: CallKeys) -> None:
    """A program that makes them without end keeps a few."""
    monkeypatch.setattr(keys, "MAX_KNOWN", 3)
    functions = [made(FUNCTION + f"LIMIT = {number}\n") for number in range(10)]

    assert len({call_keys.of(function, (1,), {}) for function in functions}) == 10
    assert len(call_keys._known) <= 3


# --- arguments


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"b", "a", 1}, {1, "a", "b"}),
        (frozenset({(1, "x"), (2, "y")}), frozenset({(2, "y"), (1, "x")})),
        (("ab", "ab"), ("ab", str(b"ab", "ascii"))),
        (Site("a", [1.0, 2.0]), Site("a", [1.0, 2.0])),
        (np.arange(10.0), np.arange(10.0)),
        (Colour.RED, Colour["RED"]),
        ({"a": [np.float64(1), None]}, {"a": [np.float64(1), None]}),
        (Path("/a"), Path("/", "a")),
        (collections.OrderedDict(a=1), collections.OrderedDict(a=1)),
    ],
)
def test_equal_values_are_known_by_the_same(one: Any, two: Any) -> None:
    """Whatever the order of a set is, and whichever objects are the same one."""
    assert value_key(one) == value_key(two)


def test_other_values_are_known_by_others() -> None:
    """Types and the order of what has one count; a structure that refers to itself is no trouble."""
    ring: list[Any] = [1]
    ring.append(ring)
    values = [
        1, 1.0, True, "1", b"1", None, ..., 1j, -0.0, 0.0, 10**100, [1], (1,), {1}, frozenset({1}), {1: 1},
        {"a": 1, "b": 2}, {"b": 2, "a": 1}, [[1], 2], [[1, 2]], [], (), {}, set(), "", b"",
        Site("a", [1.0]), Site("b", [1.0]), Colour.RED, Colour.BLUE, Colour, Site, ring, [ring], len, max,
        np.arange(3), np.arange(3.0), np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(3, np.int8), np.float64(1),
        np.asfortranarray(np.eye(3)[:2]), np.array([None, 1], object), np.sin, np.cos, Path("/a"), Path("/b"),
        re.compile("a"), re.compile("a", re.MULTILINE), logging.getLogger("a"), logging.getLogger("b"),
        lambda x: x, lambda x: x + 1, bytearray(b"1"), np, math_module(), "a".upper, "b".upper,
    ]  # fmt: skip

    found = [value_key(value) for value in values]

    assert len(set(found)) == len(values)


def math_module() -> types.ModuleType:
    """A module as an argument."""
    return sys.modules["math"]


def test_keyword_arguments_have_no_order_but_names() -> None:
    """`f(a=1, b=2)` is `f(b=2, a=1)`, and not `f(1, 2)`."""
    assert key(dict, a=1, b=2) == key(dict, b=2, a=1)
    assert len({key(dict, a=1, b=2), key(dict, a=2, b=1), key(dict, a=1), key(dict, 1, 2), key(dict)}) == 5


def test_keys_are_the_same_in_any_process() -> None:
    """Where hashes of text differ, and so do the orders of sets."""
    script = (
        "from tests.unit.sdk.answers.test_keys import *\n"
        "values = {'b', 'a', 'c'}, Site('a', [1.5]), Colour.RED, np.arange(5.0), frozenset({('a', 1), 'b'})\n"
        "made_by = CallKeys(versions.version_of, versions.source_of)\n"
        "print(made_by.of(made(FUNCTION), values, {'x': len}).hex())"
    )

    def elsewhere(seed: int) -> str:
        environ = os.environ | {"PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    assert elsewhere(1) == elsewhere(2)


@pytest.mark.parametrize("value", [threading.Lock(), [Broken()], (number for number in [1]), {"a": Broken()}])
def test_value_that_cannot_be_told_is_refused(value: Any) -> None:
    """Such as a lock; also where code refers to it."""
    with pytest.raises(UnknownContentError):
        value_key(value)
    with pytest.raises(UnknownContentError):
        key(lambda: value)


def test_structures_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too deep, or too many ways through it."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    wide: Any = [1]
    for _ in range(40):
        wide = [wide, {1: wide}]
    monkeypatch.setattr(contents, "MAX_OBJECTS", 10_000)

    with pytest.raises(UnknownContentError, match="too deep"):
        value_key(deep)
    with pytest.raises(UnknownContentError, match="more than 10000 objects"):
        value_key(wide)
    with pytest.raises(UnknownContentError, match="more than 10000 objects"):
        value_key({frozenset({number}) for number in range(10_001)})


def test_object_is_looked_at_as_pickle_would() -> None:
    """By a function that was registered for its type, and with all parts of what it is made from."""

    class Parts:
        def __reduce_ex__(self, _protocol: Any) -> Any:
            return dict, (), None, None, iter({"a": 1}.items()), setattr

    assert value_key(Parts()) == value_key(Parts())
    assert pickle.loads(pickle.dumps(re.compile("a"))) == re.compile("a")


def test_arguments_that_may_change_are_told() -> None:
    """All but numbers, text and bytes."""
    assert not keys.may_change((1, "a", b"b", None), {"x": 1.0})
    assert keys.may_change(([1],), {})
    assert keys.may_change((), {"x": {}})
