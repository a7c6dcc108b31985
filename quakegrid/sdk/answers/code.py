"""What code is known by.

Code of one's own is known by its instructions, and by all code and globals that it refers to; installed code
by its name and version. Comments, blank lines and line numbers are no content. Pure: no code is run.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from quakegrid.sdk.answers.contents import MISSING, Content, Lookups, VersionOf, module_of

# A module's name to what is known of its source, whether or not it was imported.
SourceOf = Callable[[str], str]
# Of the parts of a class: what it does not do its work with, or what other parts were made from.
_NO_PARTS = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "_abc_impl", "__annotations__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "_member_map_", "_member_names_",
    "_value2member_map_", "_unhashable_values_", "__wrapped__",
})  # fmt: skip
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType, types.ClassMethodDescriptorType)
_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})


class CodeContent:
    """Takes functions, classes and modules into one content, those of one's own once.

    Args:
        version_of: tells installed code from one's own.
        source_of: tells modules of one's own apart that are imported within functions.
        lookups: told where code has looked.
    """

    def __init__(self, version_of: VersionOf, source_of: SourceOf, lookups: Lookups) -> None:
        self._version_of, self._source_of, self._lookups = version_of, source_of, lookups
        self._seen: dict[int, tuple[int, Any]] = {}  # code, by its number
        self._names: tuple[str, ...] = ()  # attributes that the code in hand asks for

    def add(self, content: Content, value: Any) -> None:
        """Take in a function, a class or a module.

        Raises:
            UnknownContentError: it refers to something whose content cannot be told.
        """
        found = self._seen.get(id(value))
        if found is not None:
            content.mark("seen", found[0])
            return
        self._seen[id(value)] = len(self._seen), value
        if isinstance(value, types.FunctionType):
            self._add_function(content, value)
        elif isinstance(value, types.ModuleType):
            self._add_module(content, value)
        else:
            self._add_class(content, value)

    def _add_function(self, content: Content, function: types.FunctionType) -> None:
        version = self._version_of(module_of(function))
        content.mark("function", module_of(function), function.__qualname__, version)
        self._add_instructions(content, function.__code__)
        for name in ("__code__", "__defaults__", "__kwdefaults__", "__closure__"):
            self._lookups.add(functools.partial(_attribute, function), name, getattr(function, name))
        content.add(function.__defaults__)
        self._add_named(content, function.__kwdefaults__ or {})
        for cell in function.__closure__ or ():
            inside = _in_cell(cell, MISSING)
            self._lookups.add(_in_cell_of(cell), None, inside)
            content.add(None if inside is MISSING else inside)
        self._add_named(content, vars(function))
        if version is None:
            self._add_globals(content, function)

    def _add_named(self, content: Content, parts: Mapping[str, Any]) -> None:
        self._lookups.add(_size_of(parts), None, len(parts))
        for name in sorted(parts.keys() - _NO_PARTS):
            self._lookups.add(parts.get, name, parts[name])
            content.mark("part", name)
            for part in _unwrapped(parts[name]):
                content.add(part)

    def _add_globals(self, content: Content, function: types.FunctionType) -> None:
        names, attributes, imports = names_of(function.__code__)
        for name in imports:
            content.mark("import", name, self._version_of(name) or self._source_of(name))
        before, self._names = self._names, attributes
        for name in names:
            value = function.__globals__.get(name, MISSING)
            self._lookups.add(function.__globals__.get, name, value)
            if value is not MISSING:
                content.mark("global", name)
                content.add(value)
        self._names = before

    def _add_module(self, content: Content, module: types.ModuleType) -> None:
        """By name and version, or by what the code in hand may take from it."""
        version = self._version_of(module.__name__)
        content.mark("module", module.__name__, version)
        if version is not None:
            return
        # Other code may take other parts of it, or these once more: what was seen has a number.
        del self._seen[id(module)]
        found = vars(module)
        for name in self._names:
            value = found.get(name, MISSING)
            self._lookups.add(found.get, name, value)
            if value is not MISSING:
                content.mark("part", name)
                content.add(value)

    def _add_class(self, content: Content, cls: type) -> None:
        version = self._version_of(module_of(cls))
        content.mark("class", module_of(cls), cls.__qualname__, version)
        if version is not None:
            return
        content.add_all("tuple", (type(cls), *cls.__bases__))
        self._add_named(content, vars(cls))

    def _add_instructions(self, content: Content, code: types.CodeType) -> None:
        content.mark(
            "instructions",
            code.co_code,
            code.co_exceptiontable,
            code.co_flags,
            (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
            (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
            len(code.co_consts),
        )
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_instructions(content, constant)
            else:
                content.add(constant)


@functools.lru_cache(maxsize=10_000)
def names_of(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """Globals that code looks up, attributes, and modules that it imports; of functions inside of it, too."""
    found: tuple[set[str], ...] = (set(), set(), set())
    names, attributes, imports = found
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_OPERATIONS:
            names.add(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            imports.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            for mine, inner in zip(found, names_of(constant), strict=True):
                mine.update(inner)
    return tuple(tuple(sorted(each)) for each in found)


def _unwrapped(part: Any) -> tuple[Any, ...]:
    """What is in a part of a class that cannot be looked at itself."""
    kind = type(part)
    if kind is property:
        return "property", part.fget, part.fset, part.fdel
    if kind in (staticmethod, classmethod):
        return kind.__name__, part.__func__
    if kind is functools.cached_property:
        return "cached_property", part.func
    if isinstance(part, _DESCRIPTORS):
        return ("descriptor",)
    return (part,)


def _attribute(function: types.FunctionType, name: str, _default: Any) -> Any:
    return getattr(function, name)


def _in_cell(cell: types.CellType, default: Any) -> Any:
    """What is in a cell; the default if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return default


def _in_cell_of(cell: types.CellType) -> Callable[[Any, Any], Any]:
    return lambda _name, default: _in_cell(cell, default)


def _size_of(parts: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    return lambda _name, _default: len(parts)
