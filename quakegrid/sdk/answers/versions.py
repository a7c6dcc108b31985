"""Which modules are installed, and in which version; and the sources of those that are not.

Does not import modules. What is in the folders of packages is installed; everything else is one's own code,
which may change between two runs, also if it is installed in editable form.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import site
import sys
import sysconfig
from pathlib import Path

import xxhash

_PATHS = ("stdlib", "platstdlib", "purelib", "platlib")


@functools.cache
def version_of(name: str) -> str | None:
    """The version of the package that a module is installed with; None for code of one's own.

    Args:
        name: of the module. Modules of Python itself have the version "".
    """
    top = name.partition(".")[0]
    if top in ("", "__main__"):
        return None
    if top in sys.stdlib_module_names:
        return ""
    path = _path_of(name) or _path_of(top)
    if not path or not path.startswith(_folders()):
        return None
    return _stated_version(name) or _distributed_version(top)


def source_of(name: str) -> str:
    """A digest of a module's source; "" if there is none."""
    path = _path_of(name)
    try:
        return xxhash.xxh3_128_hexdigest(Path(path).read_bytes()) if path else ""
    except OSError:
        return ""


def _path_of(name: str) -> str:
    """The file of a module, or the folder of a package without one; "" if it is not known."""
    module = sys.modules.get(name)
    if module is not None and getattr(module, "__file__", None):
        return str(module.__file__)
    try:
        spec = None if module is not None else importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # there is no such module, or its package is none
        spec = None
    if spec is not None and spec.origin and spec.has_location:
        return spec.origin
    found = getattr(module, "__path__", None) or (spec.submodule_search_locations if spec else None)
    return os.path.join(next(iter(found)), "") if found else ""  # noqa: PTH118 - compared as text


@functools.cache
def _folders() -> tuple[str, ...]:
    found = {sysconfig.get_path(each) for each in _PATHS} | {
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
    return tuple(os.path.join(path, "") for path in found if path)  # noqa: PTH118 - compared as text


def _stated_version(name: str) -> str:
    """What the module, or the package that it is in, says itself."""
    while name:
        found = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(found, str) and found:
            return found
        name = name.rpartition(".")[0]
    return ""


def _distributed_version(top: str) -> str:
    """What was installed under a name: one or several distributions."""
    names = sorted(set(_distributions().get(top, ())))
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
