"""Pickles of functions without state, made again only when what they refer to has changed.

A function of `__main__` travels by value, with the globals that it uses; pickling it takes longer than all
else that is done for a small call. A pickle is used again if all globals in it can be compared by identity
and are the same; otherwise it is made each time.
"""

from __future__ import annotations

import itertools
import operator
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from quakegrid.sdk import pickles

_MISSING = object()
_ATOMS = (bool, int, float, complex, str, bytes, type(None), BuiltinFunctionType)


@dataclass(frozen=True, slots=True)
class _Pickled:
    """A pickle, and what it was made from."""

    data: bytes
    code: CodeType
    names: tuple[str, ...]
    values: tuple[Any, ...]

    def is_current(self, function: FunctionType) -> bool:
        """Whether the function would be pickled the same way now."""
        found = function.__globals__
        return function.__code__ is self.code and all(
            map(operator.is_, map(found.get, self.names, itertools.repeat(_MISSING)), self.values)
        )


_pickled: weakref.WeakKeyDictionary[FunctionType, _Pickled] = weakref.WeakKeyDictionary()


def dump(function: FunctionType) -> bytes:
    """The pickle of a function without closure; see `pickles.dump_function`."""
    known = _pickled.get(function)
    if known is not None and known.is_current(function):
        return known.data
    data = pickles.dump_function(function)
    names = tuple(set(_names(function.__code__)))
    values = tuple(function.__globals__.get(name, _MISSING) for name in names)
    if _has_no_state(function) and all(map(_is_constant, values)):
        _pickled[function] = _Pickled(data, function.__code__, names, values)
    return data


def _names(code: CodeType) -> Iterator[str]:
    """Names that the code may look up in its globals, and its attributes' names."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _has_no_state(function: FunctionType) -> bool:
    return not (function.__defaults__ or function.__kwdefaults__ or vars(function))


def _is_constant(value: Any) -> bool:
    """Whether the same object is always pickled the same way."""
    if isinstance(value, ModuleType):
        # Otherwise cloudpickle may send its content.
        return sys.modules.get(value.__name__) is value and not _has_modules_by_value()
    return value is _MISSING or type(value) in _ATOMS


def _has_modules_by_value() -> bool:
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())
