"""The numbers that a calculation has computed, as a plain file, and how those of two calculations differ.

The numbers of each calculation are written as its owner, who alone may read its datastore. They are compared
as the account of the service, which then reads plain numbers only: a datastore that somebody has made up
could name other files, or break the library that reads it.

A file begins with a line of JSON; after it come numbers of eight bytes, as the line has their places.
Whole numbers are written as such: as fractions, those above 2**53 would lose digits.

"Same" means here: the same to the last digit. That is said of as many numbers as were compared, and of no
text: `quakegrid jobs compare` compares what the engine exports, texts too, within a tolerance.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from quakegrid import errors
from quakegrid.comparison import parameters

# As numpy calls the kinds of numbers, and how each is written.
KINDS: dict[str, np.dtype[Any]] = {
    "f": np.dtype("<f8"),
    "i": np.dtype("<i8"),
    "u": np.dtype("<u8"),
    "b": np.dtype("<i8"),
}
ITEM_BYTES = 8
MOST_LARGEST = float(np.finfo("<f8").max)
# Of one dataset, and of all of a calculation; of a larger one only the first numbers are compared.
MOST_OF_ONE = 4 << 20
MOST_NUMBERS = 64 << 20
MOST_DATASETS = 400
BLOCK = 1 << 18
MOST_HEAD_BYTES = 4 << 20
# Larger inputs are compared by their size only.
MOST_INPUT_BYTES = 256 << 20
MOST_INPUTS = 1000
# The engine reads these when the job is created, before it waits for its turn, so nobody knows their contents
# later. It keeps what they say: the parameters of the job file, and the unpacked files of the archive.
_READ_BEFORE = frozenset({"job_ini", "input_zip"})
# Anybody may write there.
_WRITABLE = 0o222
# Of HDF5.
MOST_DIMENSIONS = 32
# Of outputs that are inputs, or texts.
_NO_RESULTS = frozenset(
    {"input", "job", "exposure", "fullreport", "site_model", "vulnerability", "fragility"}
)


@dataclass(slots=True)
class Difference:
    """How the numbers of one name differ in two calculations.

    Args:
        count: of numbers that were compared.
        differing: those of them that are not the same.
        largest: between two numbers.
        largest_relative: as a share of the larger one.
    """

    count: int = 0
    differing: int = 0
    largest: float = 0.0
    largest_relative: float = 0.0

    def take(self, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> None:
        """Take as many numbers of each. What is no number is the same as what is none."""
        is_other = (one != other) & ~(np.isnan(one) & np.isnan(other))
        self.count += one.size
        self.differing += int(np.count_nonzero(is_other))
        # Wide enough for the difference of any two whole numbers, and of the largest fractions.
        ours, theirs = one[is_other].astype(np.longdouble), other[is_other].astype(np.longdouble)
        is_finite = np.isfinite(ours) & np.isfinite(theirs)
        ours, theirs = ours[is_finite], theirs[is_finite]
        if ours.size:
            apart = np.minimum(np.abs(ours - theirs), MOST_LARGEST)  # JSON has nothing infinite
            relative = apart / np.maximum(np.abs(ours), np.abs(theirs))
            self.largest = max(self.largest, float(apart.max()))
            self.largest_relative = max(self.largest_relative, float(relative.max()))


def write(
    datasets: Mapping[str, Any], inputs: Mapping[str, Any], path: Path, begin_s: float = math.inf
) -> None:
    """Write numbers of a datastore to a file.

    Args:
        datasets: by the names that people see; each has a shape, and gives its numbers by slices.
        inputs: names of files by kind, in lists and dictionaries, as the engine's parameters have them.
        path: of the file, which is new.
        begin_s: when the calculation began, in seconds since 1970.
    """
    places: list[dict[str, Any]] = []
    left = MOST_NUMBERS
    for name in sorted(datasets)[:MOST_DATASETS]:
        shape = [int(size) for size in datasets[name].shape]
        count = min(math.prod(shape), MOST_OF_ONE, left)
        kind = datasets[name].dtype.kind
        first = MOST_NUMBERS - left
        places.append({"name": name, "shape": shape, "kind": kind, "count": count, "first": first})
        left -= count
    head = {
        "inputs": digests(inputs, begin_s),
        "places": places,
        "left_out": max(0, len(datasets) - MOST_DATASETS),
    }
    with path.open("wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        for place in places:
            _write_first(datasets[place["name"]], place["count"], KINDS[place["kind"]], file)


def _write_first(dataset: Any, count: int, kind: np.dtype[Any], file: BinaryIO) -> None:
    for block in _blocks(dataset, ()):
        if count <= 0:
            return
        file.write(np.ascontiguousarray(block.ravel()[:count], kind).tobytes())
        count -= block.size


def _blocks(dataset: Any, place: tuple[int, ...]) -> Iterator[np.ndarray[Any, Any]]:
    """The numbers of a dataset in their order, some at a time."""
    shape = dataset.shape[len(place) :]
    if not shape:
        yield np.asarray(dataset[place])
        return
    row_size = math.prod(shape[1:])
    if row_size > BLOCK:
        for index in range(shape[0]):
            yield from _blocks(dataset, (*place, index))
        return
    step = max(1, BLOCK // max(1, row_size))
    for start in range(0, shape[0], step):
        yield np.asarray(dataset[(*place, slice(start, start + step))])


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of a table of HDF5."""

    table: Any
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, place: Any) -> Any:
        return self.table.fields(self.name)[place]


def results_of(group: Any, exportable: Collection[str]) -> dict[str, Any]:
    """The results in an open datastore that are numbers, by their names; a column counts as one.

    Args:
        group: of HDF5.
        exportable: names of the engine's outputs.
    """
    found: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        top = name.partition("/")[0]
        is_result = top in exportable or top.endswith(("-rlzs", "-stats"))
        if not is_result or top in _NO_RESULTS or not hasattr(node, "dtype"):
            return
        if node.dtype.kind in KINDS:
            found[name] = node
        for field, (kind, *_place) in (node.dtype.fields or {}).items():
            if kind.base.kind in KINDS:
                found[f"{name}/{field}"] = _Column(node, field, (*node.shape, *kind.shape), kind.base)

    group.visititems(visit)
    return found


def digests(inputs: Mapping[str, Any], begin_s: float = math.inf) -> dict[str, str]:
    """The contents of input files in few characters, by the files' names; without the job file.

    Args:
        inputs: names of files by kind, in lists and dictionaries, as the engine's parameters have them.
        begin_s: when the calculation read them, in seconds since 1970; what was written later is another.
    """
    read_now = {key: value for key, value in inputs.items() if key not in _READ_BEFORE}
    paths = dict.fromkeys(itertools.islice(_files_in(read_now), MOST_INPUTS))
    return {name: _digest(path, begin_s) for path, name in _short_names(paths).items()}


def _short_names(paths: Collection[Path]) -> dict[Path, str]:
    """What each file is called: its name, with as many of its folders as tell it from the others."""
    ends = Counter(path.parts[at:] for path in paths for at in range(len(path.parts)))
    return {
        path: str(Path(*next(path.parts[at:] for at in range(-1, -len(path.parts) - 1, -1)
                             if ends[path.parts[at:]] == 1)))
        for path in paths
    }  # fmt: skip


def _digest(path: Path, begin_s: float) -> str:
    try:
        status = path.stat()
        size = status.st_size
        # The web service sets the times of files that it keeps; nobody writes into those.
        if status.st_mtime > begin_s and status.st_mode & _WRITABLE:
            return parameters.CHANGED
        if size > MOST_INPUT_BYTES:
            return f"{size} bytes"
        with path.open("rb") as file:
            return f"{size} bytes, SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except (FileNotFoundError, NotADirectoryError):
        return parameters.GONE
    except PermissionError:
        return parameters.FORBIDDEN
    except OSError:
        return parameters.UNREADABLE


def _files_in(value: Any) -> Iterator[Path]:
    if isinstance(value, str):
        if Path(value).is_absolute():
            yield Path(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _files_in(each)
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _files_in(each)


def compare(one_fd: int, other_fd: int) -> dict[str, Any]:
    """How two calculations differ, as JSON can have it.

    Args:
        one_fd: file of the numbers of one calculation.
        other_fd: that of the other.
    Raises:
        UsageError: a file is none that `write` has written.
    """
    one, other = NumbersFile(one_fd), NumbersFile(other_fd)
    names = [name for name in one.places if name in other.places]
    return {
        "inputs": [
            {"name": each.name, "values": [each.left, each.right]}
            for each in parameters.differing_inputs(one.head["inputs"], other.head["inputs"])
        ],
        "results": [_compared(name, one, other) for name in names],
        "only": [sorted(one.places.keys() - other.places), sorted(other.places.keys() - one.places)],
        "left_out": [one.head["left_out"], other.head["left_out"]],
    }


def _compared(name: str, one: NumbersFile, other: NumbersFile) -> dict[str, Any]:
    shapes = [one.places[name]["shape"], other.places[name]["shape"]]
    told = {"name": name, "shapes": shapes, "size": math.prod(shapes[0])}
    if shapes[0] != shapes[1]:
        return told | {"is_same": False}
    found = Difference()
    for ours, theirs in zip(one.blocks(name), other.blocks(name), strict=False):
        size = min(ours.size, theirs.size)
        found.take(ours[:size], theirs[:size])
    is_same = None if told["size"] and not found.count else found.differing == 0  # of none, nobody knows
    return told | {"is_same": is_same, **asdict(found)}


class NumbersFile:
    """A file that `write` has written; or that a person has, who may have written anything.

    Args:
        number: of its descriptor.
    Raises:
        UsageError: it is none.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        first, is_whole, _ = os.pread(number, MOST_HEAD_BYTES, 0).partition(b"\n")
        try:
            self.head = json.loads(first)
            is_sound = bool(is_whole) and _is_head(self.head)
        except (ValueError, RecursionError):
            is_sound = False
        if not is_sound:
            raise _unreadable()
        self.places: dict[str, Any] = {place["name"]: place for place in self.head["places"]}
        self._begin = len(first) + 1

    def blocks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The numbers of a name in their order, some at a time.

        Raises:
            UsageError: the file ends before.
        """
        place = self.places[name]
        for start in range(0, place["count"], BLOCK):
            size = min(BLOCK, place["count"] - start) * ITEM_BYTES
            found = os.pread(self._number, size, self._begin + (place["first"] + start) * ITEM_BYTES)
            if len(found) != size:
                raise _unreadable()
            yield np.frombuffer(found, KINDS[place["kind"]])


def _unreadable() -> errors.UsageError:
    return errors.UsageError("the numbers of a calculation cannot be read")


def _is_head(head: Any) -> bool:
    """Whether the first line of a file is as `write` makes it, and bounds the work of a comparison."""
    if not isinstance(head, dict) or head.keys() != {"inputs", "places", "left_out"}:
        return False
    inputs, places = head["inputs"], head["places"]
    if not isinstance(inputs, dict) or not all(isinstance(text, str) for text in inputs.values()):
        return False
    if not _is_count(head["left_out"], MOST_HEAD_BYTES) or not isinstance(places, list):
        return False
    if len(places) > MOST_DATASETS or not all(map(_is_place, places)):
        return False
    count: int = sum(place["count"] for place in places)
    return count <= MOST_NUMBERS


def _is_place(place: Any) -> bool:
    if not isinstance(place, dict) or place.keys() != {"name", "shape", "kind", "count", "first"}:
        return False
    name, shape, kind = place["name"], place["shape"], place["kind"]
    if not isinstance(name, str) or not isinstance(kind, str) or kind not in KINDS:
        return False
    is_shape = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
    if not is_shape or not all(_is_count(size, 1 << 63) for size in shape):
        return False
    most = min(MOST_OF_ONE, math.prod(shape))
    return _is_count(place["count"], most) and _is_count(place["first"], MOST_NUMBERS)


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
