"""Packages that the engine can do without until a calculation needs one: missing, or loaded late.

The engine sets the name of a package to None where it cannot import it, and fails later with an
`AttributeError` of None. `explain` recognises that, and names the package. `load_late` keeps a package out of
the template until a driver or worker uses it: some versions of onnxruntime start a thread when they are
loaded, and a process with threads cannot be forked. Imports nothing of the engine.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import ModuleType
from typing import Any

EXTRA = "quakegrid[engine-optional]"


@dataclass(frozen=True, slots=True)
class OptionalPart:
    """A package that only some calculations need.

    Args:
        package: to install, and to import.
        name: by which the engine's sources know it.
        purpose: what needs it; empty if we do not know.
        is_in_extra: whether our extra installs it.
    """

    package: str
    name: str
    purpose: str = ""
    is_in_extra: bool = False


# All that modules of engines 3.23 to 3.26 set to None where they cannot import it.
PARTS = (
    OptionalPart("networkx", "nx", "infrastructure networks", is_in_extra=True),
    OptionalPart("onnxruntime", "onnxruntime", "machine learning models", is_in_extra=True),
    OptionalPart("fiona", "fiona", "geopackages and shapefiles"),
    OptionalPart("rtgmpy", "rtgmpy", "risk-targeted ground motion"),
)
# A file of the engine that is missing is no package.
ITSELF = OptionalPart("openquake", "openquake")
LATE = ("networkx", "onnxruntime")
# Of the special names, those that only a loaded module has.
_LOADED_FOR = frozenset({"__all__", "__version__"})
_LOADING = threading.RLock()
_being_loaded: set[str] = set()

_NONE = re.compile(r"'NoneType' object has no attribute '(\w+)'")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_FRAME = re.compile(r'^[ ]*File "([^"\n]+)", line \d+, in .*\n[ ]*(.*)$', re.MULTILINE)


def explain(exc: BaseException) -> str:
    """Which optional package a calculation lacked; empty if its error is another one.

    Args:
        exc: as raised in a driver; the engine puts the traceback of a task into its text.
    """
    if not isinstance(exc, AttributeError | ImportError):
        return ""
    return find_missing("".join(traceback.format_exception(exc)))


def find_missing(text: str) -> str:
    """The same for a traceback, or one that contains the traceback of a task.

    Args:
        text: with the lines of the sources.
    """
    if found := _last(_NONE, text):
        file, line = _last_frame(text[: found.start()])
        part = next((part for part in PARTS if f"{part.name}.{found.group(1)}" in line), None)
    elif found := _last(_NO_MODULE, text):
        file, _ = _last_frame(text[: found.start()])
        package = found.group(1).partition(".")[0]
        part = next((part for part in PARTS if part.package == package), OptionalPart(package, package))
    else:
        return ""
    is_of_engine = "openquake" in PurePath(file).parts and part != ITSELF
    return _words(part) if part and is_of_engine else ""


class _LateModule(ModuleType):
    """A module that was imported but not loaded: is asked for an attribute that it has not yet."""

    def __getattr__(self, name: str) -> Any:
        """Load it, and be an ordinary module from then on.

        Names such as `__wrapped__`, which tools ask of every module, do not load it. Other threads wait until
        it is loaded whole. After an error it is as it was, and the next one who asks tries again.
        """
        is_special = name.startswith("__") and name.endswith("__") and name not in _LOADED_FOR
        with _LOADING:  # only the thread that loads the module sees that it is being loaded
            if is_special or self.__name__ in _being_loaded:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            if type(self) is _LateModule:
                self._load()
        return getattr(self, name)

    def _load(self) -> None:
        assert self.__spec__ is not None, "`load_late` made it from its spec"
        assert self.__spec__.loader is not None, "as above"
        before = dict(self.__dict__)
        _being_loaded.add(self.__name__)
        try:
            self.__spec__.loader.exec_module(self)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        finally:
            _being_loaded.discard(self.__name__)
        self.__class__ = ModuleType  # type: ignore[assignment]


def load_late(packages: Sequence[str] = LATE) -> None:
    """Let packages that are installed be loaded when something of them is used, not when they are imported.

    `importlib.util.LazyLoader` would not do: an `import` of a module that it made loads it.
    """
    for package in packages:
        spec = None if package in sys.modules else importlib.util.find_spec(package)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            module.__class__ = _LateModule
            sys.modules[package] = module


def _words(part: OptionalPart) -> str:
    package = EXTRA if part.is_in_extra else part.package
    purpose = f" for {part.purpose}" if part.purpose else ""
    return (
        f"the engine needs the Python package {part.package}{purpose}, and it is not installed. Install it "
        f"into QuakeGrid's environment on all machines: pip install '{package}'"
    )


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = list(pattern.finditer(text))
    return found[-1] if found else None


def _last_frame(text: str) -> tuple[str, str]:
    """File and source line of the last frame of a traceback; empty if there is none."""
    found = _last(_FRAME, text)
    return (found.group(1), found.group(2)) if found else ("", "")
