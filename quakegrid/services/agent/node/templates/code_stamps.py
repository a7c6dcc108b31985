"""A stamp of the code that a template would load from disk; it changes when the code does.

Reads files and imports nothing. The stamp of an installed distribution is that of its RECORD. The stamp of a
package that is installed for editing, or of a module of `[agent] preload`, is that of all its source files.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from quakegrid.settings.sections import ENGINE

# The distributions whose code a template loads, with their packages. The engine works without the last two.
SOURCES = {
    "openquake-engine": ("openquake",),
    "numpy": ("numpy",),
    "numba": ("numba",),
    "networkx": ("networkx",),
    "onnxruntime": ("onnxruntime",),
    "quakegrid": ("quakegrid", "services"),
}


def look(preload: Sequence[str]) -> str:
    """The stamp of the code on disk now.

    Args:
        preload: as in `[agent] preload`.
    """
    importlib.invalidate_caches()
    digest = hashlib.sha256()
    packages = {name.partition(".")[0] for name in preload if name != ENGINE}
    installed = _installed()
    for distribution, sources in SOURCES.items():
        info = installed.get(distribution)
        if info is None or _is_editable(info):
            packages.update(sources)
        if info is not None:
            digest.update(_stamp(info / "RECORD").encode())
    for package in sorted(packages):
        for stamp in _stamps(package):
            digest.update(stamp.encode())
    return digest.hexdigest()


def _installed() -> dict[str, Path]:
    """The folders of metadata of these distributions; of two with one name the first on the path counts."""
    found: dict[str, Path] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - names only, and often
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                distribution = re.sub(r"[-_.]+", "-", name.partition("-")[0]).lower()
                if distribution in SOURCES:
                    found.setdefault(distribution, Path(folder, name))
    return found


def _is_editable(info: Path) -> bool:
    try:
        origin = json.loads((info / "direct_url.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(origin.get("dir_info", {}).get("editable"))


def _stamps(package: str) -> Iterator[str]:
    """Stamps of the source files of a module, or of a package and its subpackages."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin:
            yield _stamp(spec.origin)
        return
    for place in sorted(spec.submodule_search_locations):
        yield from _stamps_below(place)


def _stamps_below(folder: str) -> Iterator[str]:
    """Stamps of the source files in a folder; some hundred, every few seconds: no objects for paths."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.endswith((".py", ".so")):
            yield _stamp(entry.path)
        elif entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__":
            yield from _stamps_below(entry.path)


def _stamp(path: str | os.PathLike[str]) -> str:
    try:
        found = os.stat(path)  # noqa: PTH116 - of some hundred files, every few seconds
    except OSError:
        return f"{path} missing\n"
    return f"{path} {found.st_mtime_ns} {found.st_size}\n"
