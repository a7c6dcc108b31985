"""The content of Python objects as bytes: equal for equal content, in any process of one version of Python.

Data is known by its values, whatever the order of a set is and whichever objects are the same one. What code
is known by, `code.py` says. Pure: the objects are only looked at.
"""

from __future__ import annotations

import copyreg
import enum
import marshal
import pathlib
import pickle
import re
import types
from collections.abc import Callable, Iterable
from typing import Any

import xxhash

AddCode = Callable[["Content", Any], None]
# A module's name to the version of the package that it is installed with; None for code of one's own.
VersionOf = Callable[[str], str | None]
# Objects that one look may go through; more of them are most likely a structure that refers to itself often.
MAX_OBJECTS = 1_000_000
ATOMS = frozenset({type(None), type(...), bool, int, float, complex, str, bytes})
# Objects that do not change, though they are no atoms.
_CONSTANTS = (types.BuiltinFunctionType, enum.Enum, re.Pattern, pathlib.PurePath)
_CONSTANTS_OF = frozenset({"logging"})
# Packages whose wrappers of functions do what the function does, with the options that they name.
_WRAPPERS = frozenset({"functools", "numba"})
MISSING = object()
# `marshal` writes floats whole, and nothing about which objects are the same one.
_FORMAT = 2


class UnknownContentError(Exception):
    """An object whose content cannot be told, such as a lock."""


class Lookups:
    """Where code has looked, to find out later whether it would see the same.

    Nothing is known of what may change without being exchanged, such as a list; then `is_constant` is False.
    """

    def __init__(self) -> None:
        self.is_constant = True
        self._places: list[tuple[Callable[..., Any], Any, Any]] = []

    def add(self, get: Callable[..., Any], name: Any, value: Any) -> None:
        """Something was found in a place."""
        self._places.append((get, name, value))

    def are_current(self) -> bool:
        """Whether the same is in all places."""
        return self.is_constant and all(get(name, MISSING) is value for get, name, value in self._places)


class Content:
    """Takes in objects, one after the other; `digest` is what they are known by.

    Args:
        version_of: tells installed code from one's own.
        lookups: told whether what is looked at may change.
        code: makes what takes in functions, classes and modules.
    """

    def __init__(self, version_of: VersionOf, lookups: Lookups, code: Callable[[], AddCode]) -> None:
        self._version_of, self._lookups, self._code = version_of, lookups, code
        self._add_code = code()
        self._state = xxhash.xxh3_128()
        self._count = 0
        self._open: dict[int, int] = {}  # what is being looked through, by its depth

    def digest(self) -> bytes:
        """Of all that was taken in."""
        return self._state.digest()

    def add(self, value: Any) -> None:
        """Take in an object.

        Raises:
            UnknownContentError: it has something in it whose content cannot be told.
        """
        kind = type(value)
        if kind in ATOMS:
            self._state.update(marshal.dumps(value, _FORMAT))
            return
        self._count += 1
        if self._count > MAX_OBJECTS:
            raise UnknownContentError(f"it has more than {MAX_OBJECTS} objects")
        if kind in (tuple, list) and ATOMS.issuperset(map(type, value)):
            self._lookups.is_constant &= kind is tuple
            self._state.update(marshal.dumps(value, _FORMAT))
        elif (depth := self._open.get(id(value))) is not None:
            self.mark("above", depth)
        else:
            self._open[id(value)] = len(self._open)
            try:
                self._add_whole(value, kind)
            except RecursionError:
                raise UnknownContentError("it is too deep") from None
            finally:
                self._open.popitem()

    def mark(self, *words: Any) -> None:
        """Take in plain words and numbers, such as what kind of object follows."""
        self._state.update(marshal.dumps(words, _FORMAT))

    def _add_whole(self, value: Any, kind: type) -> None:
        if isinstance(value, types.FunctionType | types.ModuleType | type):
            self._add_code(self, value)
        elif kind in (tuple, list):
            self.add_all(kind.__name__, value)
        elif kind in (dict, types.MappingProxyType):
            self.add_all("dict", [part for item in value.items() for part in item])
        elif kind in (set, frozenset):
            self._add_set(value, kind)
        elif kind is pickle.PickleBuffer:
            self._add_buffer(value)
        elif kind is types.MethodType:
            self.add_all("tuple", (value.__func__, value.__self__))
        elif module_of(kind).partition(".")[0] in _WRAPPERS and hasattr(value, "__wrapped__"):
            options = getattr(value, "targetoptions", None)
            self.add_all(
                "tuple", (kind.__qualname__, value.__wrapped__, *(options.items() if options else ()))
            )
        else:
            self._add_object(value, kind)

    def add_all(self, mark: str, values: Iterable[Any]) -> None:
        """Take in all of a list, a tuple or a dictionary."""
        found = list(values)
        self._lookups.is_constant &= mark == "tuple"
        self.mark(mark, len(found))
        for value in found:
            self.add(value)

    def _add_set(self, values: Iterable[Any], kind: type) -> None:
        """By the digests of what is in it, in their order."""
        self._lookups.is_constant &= kind is frozenset
        digests = []
        for value in values:
            part = Content(self._version_of, self._lookups, self._code)
            part._count, part._open = self._count, dict(self._open)
            part.add(value)
            self._count = part._count
            digests.append(part.digest())
        self.mark(kind.__name__, *sorted(digests))

    def _add_buffer(self, buffer: pickle.PickleBuffer) -> None:
        view = buffer.raw()
        self._lookups.is_constant = False
        self.mark("buffer", view.nbytes)
        self._state.update(view)

    def _add_object(self, value: Any, kind: type) -> None:
        """By what pickle would make it from."""
        try:
            made_by = copyreg.dispatch_table.get(kind)
            found = made_by(value) if made_by else value.__reduce_ex__(5)
        except Exception as exc:  # whatever an object's own methods raise
            raise UnknownContentError(f"{kind.__qualname__}: {exc}") from exc
        if isinstance(found, str):
            module = module_of(value) or module_of(kind)
            self.mark("named", module, found, self._version_of(module))
            return
        self._lookups.is_constant &= isinstance(value, _CONSTANTS) or module_of(kind) in _CONSTANTS_OF
        is_constant = self._lookups.is_constant
        made_of: list[Any] = list(found)
        made_of[3:5] = [None if part is None else list(part) for part in made_of[3:5]]
        self.mark("object", len(made_of))
        for part in made_of:
            self.add(part)
        self._lookups.is_constant = is_constant  # what it was made from is new each time


def module_of(value: Any) -> str:
    """Where something is defined; "" where that is not said, as by types that have a slot of that name."""
    found = getattr(value, "__module__", None)
    return found if isinstance(found, str) else ""
