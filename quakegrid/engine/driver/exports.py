"""The engine's exporters, made to write whole files or none.

An exporter writes by name into its job's export folder. Here it writes into a new folder inside that one.
When it has succeeded and its files are on disk, each is moved to its place in one step. A driver that is
killed leaves the new folder, which has the job's id in its name: the next driver of that job removes it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openquake.baselib.general import CallableDict

from quakegrid import errors
from quakegrid.engine.driver import stops

STAGING_PREFIX = ".quakegrid-export-"


@dataclass(frozen=True, slots=True)
class ExportFailure:
    """An output that could not be exported; for people."""

    ds_key: str
    kind: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.ds_key} as {self.kind}: {self.reason}"


class WholeExports(CallableDict):  # type: ignore[misc]
    """Stands in for the engine's table of exporters, and knows what this process has exported."""

    written: list[str]
    failures: list[ExportFailure]
    _is_staging = False

    @property
    def formats(self) -> set[str]:
        """All formats that there are exporters for."""
        return {kind for _ds_key, kind in self}

    def __call__(self, output: tuple[str, str], dstore: Any, *args: Any, **options: Any) -> Any:
        """Export an output as the engine does; the paths of its files."""
        if self._is_staging or self.keyfunc(output) not in self:  # an exporter that calls another
            return super().__call__(output, dstore, *args, **options)
        self._is_staging = True
        try:
            paths = self._export(output, dstore, *args, **options)
        except Exception as exc:
            self.failures.append(ExportFailure(output[0], output[1], _reason(exc)))
            raise
        finally:
            self._is_staging = False
        self.written += map(str, paths)
        return paths

    def _export(self, output: tuple[str, str], dstore: Any, *args: Any, **options: Any) -> list[str]:
        target = Path(dstore.export_dir)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_staging_prefix(dstore.calc_id), dir=target) as staging:
            dstore.export_dir = staging
            try:
                paths = super().__call__(output, dstore, *args, **options)
            finally:
                dstore.export_dir = str(target)
            move_whole(Path(staging), target)
        return [_moved(str(path), staging, str(target)) for path in paths]


def remove_staging(folder: Path, job_id: int) -> None:
    """Remove what a driver of a job was writing into its export folder when it was killed."""
    for path in folder.glob(f"{_staging_prefix(job_id)}*"):
        shutil.rmtree(path, ignore_errors=True)  # what stays is hidden, and nobody reads it


def move_whole(staging: Path, target: Path) -> None:
    """Move all files of a folder into another one of the same disk, after they are stored for good.

    Raises:
        OSError: a file could not be stored; then none was moved.
    """
    paths = [path for path in sorted(staging.rglob("*")) if path.is_file()]
    for path in paths:
        _store(path)
    for path in paths:
        place = target / path.relative_to(staging)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    _store(target)


def take_over(table: Any) -> WholeExports:
    """Make the engine's table of exporters ours, in place: its modules hold it by several names."""
    table.__class__ = WholeExports
    table.written, table.failures = [], []
    assert isinstance(table, WholeExports)
    return table


def tell_failures(table: WholeExports) -> bool:
    """Print what could not be exported; whether there is anything."""
    for failure in table.failures:
        print(f"quakegrid: not exported: {failure}", file=sys.stderr)
    return bool(table.failures)


def make_folder(folder: Path) -> None:
    """Make the folder that outputs are exported into, if it is not there.

    Raises:
        QuakeGridError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise errors.QuakeGridError(f"cannot export into {folder}: {exc.strerror}") from exc


def check_formats(formats: str, known: Iterable[str]) -> list[str]:
    """The formats of a list with commas.

    Args:
        formats: as given by a person.
        known: formats that there are exporters for.
    Raises:
        UsageError: the engine can export nothing in one of them.
    """
    there_are = sorted(set(known))
    wanted = [kind.strip() for kind in formats.split(",") if kind.strip()]
    for kind in wanted:
        if kind not in there_are:
            raise errors.UsageError(f"there is no export format {kind}; there are {', '.join(there_are)}")
    return wanted


def _staging_prefix(job_id: int) -> str:
    return f"{STAGING_PREFIX}{job_id}-"


def _store(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _moved(path: str, staging: str, target: str) -> str:
    return target + path[len(staging) :] if path.startswith(staging + os.sep) else path


def _reason(exc: Exception) -> str:
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else stops.one_line(exc)
