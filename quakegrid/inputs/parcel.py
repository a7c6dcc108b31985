"""A calculation's files as they are sent: where they lie here, their names there, sizes and hashes.

All names are relative to the folder that holds all files, so that `../` in a job file leads to the same file
there as here, and nothing leads out of what is sent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quakegrid import errors
from quakegrid.inputs import closure, names


@dataclass(frozen=True, slots=True)
class Item:
    """A file to send.

    Args:
        path: where it lies here.
        name: there, relative to the folder of the calculation.
        size_bytes: of its content.
        sha256: of its content, in hexadecimal.
    """

    path: Path
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class InputParcel:
    """All files of one calculation.

    Args:
        job_file: the name there of the job file.
        items: the files, the job file among them.
        outside_count: how many of them lie outside of the folder of the job file.
        exports: formats that the job file wants, with commas; empty for none.
        export_dir: where it wants them, as an absolute path.
    """

    job_file: str
    items: tuple[Item, ...]
    outside_count: int
    exports: str
    export_dir: Path

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(item.size_bytes for item in self.items)


class DiskFiles:
    """The files of this machine, as `closure` wants them."""

    def is_file(self, path: str) -> bool:
        """Whether there is a file."""
        return os.path.isfile(path)  # noqa: PTH113 - asked for each word of large texts

    def read(self, path: str, most_bytes: int) -> str:
        """The text of a file, up to so many bytes; what is no text becomes marks.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - as above
                return file.read(most_bytes).decode("utf-8", "replace")
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    def same_stem(self, path: str) -> Iterable[str]:
        """Files beside a file whose names differ from its name only after the last dot."""
        own = Path(path)
        return sorted(str(each) for each in own.parent.iterdir() if each.stem == own.stem and each.is_file())


def make(job_ini: Path) -> InputParcel:
    """Find all files of a calculation and hash them.

    Args:
        job_ini: the job file, or a .zip with everything in it.
    Raises:
        UsageError: a file cannot be read, or the job file names an input by an absolute path.
    """
    files = DiskFiles()
    job_path = os.path.abspath(job_ini.expanduser())  # noqa: PTH100 - normalises `..` as the engine does
    text = "" if job_path.endswith(".zip") else files.read(job_path, closure.MOST_TEXT_BYTES)
    wrong = names.absolute_inputs(text)
    if wrong:
        raise errors.UsageError(
            f"{job_ini}: {wrong[0][:200]}: the engine takes no absolute paths of inputs; give the path "
            "from the folder of the job file"
        )
    paths = [job_path] if job_path.endswith(".zip") else closure.find([job_path], files)
    exports, export_dir = names.export_wishes(text)
    root = common_root(paths)
    home = os.path.dirname(job_path)  # noqa: PTH120 - plain text, as the others
    return InputParcel(
        job_file=_name(job_path, root),
        items=tuple(_item(path, root) for path in paths),
        outside_count=sum(not path.startswith(f"{home}{os.sep}") for path in paths),
        exports=exports,
        export_dir=Path(os.path.normpath(Path(home, export_dir or "."))),
    )


def common_root(paths: Sequence[str]) -> str:
    """The deepest folder that holds all these files."""
    return os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 - plain text


def _name(path: str, root: str) -> str:
    return os.path.relpath(path, root)


def _item(path: str, root: str) -> Item:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a plain path
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Item(Path(path), _name(path, root), file.tell(), digest)
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: str, exc: OSError) -> errors.UsageError:
    return errors.UsageError(f"{path} cannot be read: {exc.strerror}")
