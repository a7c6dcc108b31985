"""The files that a calculation needs: its job files, the files that these name, and so on. Pure.

The engine knows more about its formats, but is not everywhere. This goes by names: each word of a job file,
and of the texts found so, that is the name of a file belongs to the calculation. So a file too many may be
found, if a comment names it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Protocol

from quakegrid.inputs import names

# Texts that may name other files.
_TEXTS = (".ini", ".xml", ".csv", ".toml", ".json")
# More of a text is not looked through: files this large hold sources, sites or assets.
MOST_TEXT_BYTES = 64 << 20
# Files that belong together by their names: sources of an XML file, and the parts of a shapefile.
_SOURCES, _SHAPE = ".hdf5", ".shp"


class Files(Protocol):
    """The files of a machine, by absolute paths."""

    def is_file(self, path: str) -> bool:
        """Whether there is a file that can be sent."""

    def read(self, path: str, most_bytes: int) -> str:
        """The text of a file, up to so many bytes."""

    def same_stem(self, path: str) -> Iterable[str]:
        """Files beside a file whose names differ from its name only after the last dot."""


def find(job_files: Iterable[str], files: Files) -> list[str]:
    """All files of a calculation, the job files first, then in the order in which they are named.

    Args:
        job_files: absolute paths.
        files: those that there are.
    """
    roots = [posixpath.normpath(path) for path in job_files]
    found = dict.fromkeys(roots)
    homes = list(dict.fromkeys(map(posixpath.dirname, roots)))
    waiting = list(roots)
    while waiting:
        path = waiting.pop(0)
        for other in _named_by(path, homes, files):
            if other not in found:
                found[other] = None
                waiting.append(other)
    return list(found)


def _named_by(path: str, homes: list[str], files: Files) -> Iterator[str]:
    stem, suffix = posixpath.splitext(path)
    if suffix == ".xml" and files.is_file(stem + _SOURCES):
        yield stem + _SOURCES
    if suffix == _SHAPE:
        yield from files.same_stem(path)
    if suffix not in _TEXTS:
        return
    folders = dict.fromkeys([posixpath.dirname(path), *homes])
    for word in names.words(files.read(path, MOST_TEXT_BYTES)):
        if posixpath.isabs(word) or _is_hidden(word):
            continue
        for folder in folders:
            other = posixpath.normpath(posixpath.join(folder, word))
            if files.is_file(other):
                yield other
                break


def _is_hidden(word: str) -> bool:
    """Whether a name leads to a hidden file or folder, such as `.netrc`: a model may be a stranger's."""
    return any(part.startswith(".") and part.strip(".") for part in word.split("/"))
