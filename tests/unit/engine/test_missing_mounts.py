"""Errors of tasks that tell of a file which their node does not see."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest

from quakegrid.engine.tasks import missing_mounts

FOLDER = "/no such mount"
FILE = f"{FOLDER}/ann/oqdata/calc_7.hdf5"
H5PY = f"Unable to synchronously open file (unable to open file: name = '{FILE}', errno = 2, flags = 0)"
ERRORS = {
    "Python": lambda path: FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path),
    "h5py": lambda path: FileNotFoundError(errno.ENOENT, H5PY.replace(FILE, path)),
    "the engine opens": lambda path: OSError(f"[Errno 2] {H5PY.replace(FILE, path)} in {path}"),
    "the engine looks": lambda path: OSError(f"File not found: {path}"),
}
by_error = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)


@by_error
def test_missing_file_of_shared_dir_is_told_with_node_and_mount(error: Callable[[str], OSError]) -> None:
    """In whatever words the error has it."""
    told = missing_mounts.describe(error(FILE), FOLDER)

    node = socket.gethostname()
    assert told.startswith(
        f"node {node} does not see {FILE}, and the driver serves no such file of the job: "
    )
    assert f"shared_dir {FOLDER} must be mounted there" in told


def test_file_outside_of_shared_dir_and_no_shared_dir_have_words_of_their_own() -> None:
    """Mounting what is mounted would not help."""
    error = ERRORS["Python"](FILE)

    assert "it must lie in shared_dir /elsewhere, which all nodes mount" in missing_mounts.describe(
        error, "/elsewhere"
    )
    assert "a folder that all nodes mount, which [directory] shared_dir names" in missing_mounts.describe(
        error, ""
    )


@by_error
def test_file_that_is_there_is_no_matter_of_mounts(error: Callable[[str], OSError]) -> None:
    """Whatever else is wrong with it."""
    assert missing_mounts.describe(error(__file__), FOLDER) == ""


def test_error_without_a_file_is_no_matter_of_mounts() -> None:
    """Such as one of the network."""
    assert missing_mounts.describe(ConnectionRefusedError(111, "Connection refused"), FOLDER) == ""
