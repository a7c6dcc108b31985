"""The key of a call: a digest of what is called, and with which arguments.

Equal keys mean that the same instructions would run with the same values. The key of a function is made once,
and again when something that it refers to was exchanged, or may have changed. Pure.

The digest is xxh3, which tells calls apart that differ by chance, at the speed of memory. It is no protection
against data made so that two calls get one key: a journal is one person's, and so is what they put into it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import xxhash

from quakegrid.sdk.answers.code import CodeContent, SourceOf
from quakegrid.sdk.answers.contents import ATOMS, AddCode, Content, Lookups, VersionOf

# Functions, classes and modules whose digests are remembered; a program may make functions without end.
MAX_KNOWN = 1_000
# Raised when equal calls get other keys than before.
_VERSION = 1
_SEED = f"call {_VERSION} {sys.implementation.cache_tag} {sys.version_info[:3]}".encode()


class CallKeys:
    """Makes keys, and remembers those of functions.

    Args:
        version_of: tells installed code from one's own.
        source_of: tells modules of one's own apart that are imported within functions.
    """

    def __init__(self, version_of: VersionOf, source_of: SourceOf) -> None:
        self._version_of, self._source_of = version_of, source_of
        self._known: dict[int, tuple[Any, bytes, Lookups]] = {}

    def of(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The key of a call, 16 bytes.

        Raises:
            UnknownContentError: the content of something in it cannot be told.
        """
        state = xxhash.xxh3_128(_SEED)
        state.update(self._of_code(function) if isinstance(function, FunctionType) else self._of(function))
        state.update(self._of(args))
        if kwargs:
            state.update(self._of(tuple(sorted(kwargs.items()))))
        return state.digest()

    def _of(self, value: Any) -> bytes:
        content = Content(self._version_of, Lookups(), lambda: self._mark_code)
        content.add(value)
        return content.digest()

    def _mark_code(self, content: Content, code: Any) -> None:
        content.mark("code", self._of_code(code))

    def _of_code(self, code: Any) -> bytes:
        """The digest of a function, a class or a module."""
        known = self._known.get(id(code))
        if known is not None and known[2].are_current():
            return known[1]
        lookups = Lookups()

        def reader() -> AddCode:
            return CodeContent(self._version_of, self._source_of, lookups).add

        content = Content(self._version_of, lookups, reader)
        content.add(code)
        digest = content.digest()
        if lookups.is_constant:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[id(code)] = code, digest, lookups  # it lives on, so that nothing else gets its id
        return digest


def may_change(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether arguments may be others after a while, though they are the same objects."""
    return not (ATOMS.issuperset(map(type, args)) and ATOMS.issuperset(map(type, kwargs.values())))
