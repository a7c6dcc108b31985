"""Makes a folder of inputs of what was sent: an archive is unpacked, files are put in place.

Functions block: call them in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quakegrid.errors import UsageError
from quakegrid.services.web.uploads import archives, job_files
from quakegrid.services.web.uploads.archives import Bounds
from quakegrid.services.web.uploads.forms import Form

PARTS, FILES = "parts", "files"
MOST_JOB_FILE_BYTES = 1 << 20
# How much larger than the largest upload its files may be.
UNPACKED_TIMES = 8


@dataclass(frozen=True, slots=True)
class Model:
    """Inputs in place.

    Args:
        root: folder that holds all of them; None for a person's own files.
        job_ini: the job file.
    """

    root: Path | None
    job_ini: Path


def take_form(form: Form, folder: Path, asked: str, most_upload_bytes: int) -> Model:
    """Put the files of a form in place.

    Args:
        form: as it came; an archive among its files counts alone, the last of several, as upstream does.
        folder: of the upload.
        asked: what the name of the job file must end in.
        most_upload_bytes: that one upload may have.
    Raises:
        UsageError: there are none, or they are not taken.
    """
    if not form.files:
        raise UsageError("send the job file and its inputs as `archive`: one .zip, or many files")
    zips = [path for name, path in form.files.items() if name.endswith(".zip")]
    if zips:
        return take_archive(zips[-1], folder, asked, most_upload_bytes)
    return _chosen(_put(form.files, folder), list(form.files), asked)


def take_files(files: Mapping[str, Path], folder: Path, job_file: str, most_upload_bytes: int) -> Model:
    """Put files in place that came one by one; archives among them are inputs, unless one is the job file.

    Args:
        files: relative names, and where their content lies now.
        folder: of the upload.
        job_file: the name of the job file.
        most_upload_bytes: that one upload may have.
    Raises:
        UsageError: they are not taken.
    """
    if job_file.endswith(".zip"):
        return take_archive(files[job_file], folder, ".ini", most_upload_bytes)
    root = _put(files, folder)
    archives.check_inner(root, list(files), Bounds(UNPACKED_TIMES * most_upload_bytes))
    _check_all(root, files)
    return Model(root, root / job_file)


def take_archive(source: Path, folder: Path, asked: str, most_upload_bytes: int) -> Model:
    """Unpack an archive.

    Raises:
        UsageError: it is not taken.
    """
    root = folder / FILES
    root.mkdir()
    found = archives.unpack(source, root, Bounds(UNPACKED_TIMES * most_upload_bytes))
    return _chosen(root, found, asked)


def let_read(root: Path) -> None:
    """Let a driver of another account read what was sent, once it has a descriptor of the folder.

    Nobody else gets there: the folder above is closed.
    """
    for path, _folders, files in os.walk(root):
        os.chmod(path, 0o755)  # noqa: PTH101, S103 - there may be many; nobody gets to them by a path
        for name in files:
            os.chmod(os.path.join(path, name), 0o644)  # noqa: PTH101, PTH118


def drop_parts(folder: Path) -> None:
    """Remove what was received, when it is in place."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def _chosen(root: Path, names: list[str], asked: str) -> Model:
    job_ini = job_files.job_file(names, asked)
    _check_all(root, names)
    return Model(root, root / job_ini)


def _put(files: Mapping[str, Path], folder: Path) -> Path:
    """Put files in place; the folder that holds them."""
    root = folder / FILES
    root.mkdir()
    for name, path in files.items():
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(root / name)
        except OSError as exc:
            raise UsageError(f"{name} cannot be written: {exc.strerror}") from exc
    return root


def _check_all(root: Path, names: Iterable[str]) -> None:
    for name in names:
        if name.endswith(".ini"):
            _check(root, name)


def _check(root: Path, name: str) -> None:
    path = root / name
    if path.stat().st_size > MOST_JOB_FILE_BYTES:
        raise UsageError(f"{name} is larger than {MOST_JOB_FILE_BYTES >> 20} MB; is it a job file?")
    job_files.check(name, path.read_text(encoding="utf-8", errors="replace"))
