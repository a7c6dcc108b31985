"""The list of a driver's jobs: what is written is read by whoever opens the file, and it never grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quakegrid.journals import job_lists
from quakegrid.journals.job_lists import JobList


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty list."""
    path = tmp_path / "7.jobs"
    path.touch()
    with path.open("r+b") as file:
        job_lists.reserve(file.fileno())
    return path


def opened(path: Path) -> JobList:
    """The list as a driver has it: its descriptor is closed."""
    with path.open("r+b") as file:
        return JobList(file.fileno())


def lines(path: Path) -> list[bytes]:
    """What the agent reads."""
    with path.open("rb") as file:
        return job_lists.lines_of(file.fileno())


def test_lines_of_drivers_one_after_the_other_are_there_once(path: Path) -> None:
    """A driver that resumes writes the ids again."""
    for number in (7, 8):
        opened(path).add(b"7")
        opened(path).add(str(number).encode())

    assert lines(path) == [b"7", b"8"]


def test_line_without_its_end_does_not_count(path: Path) -> None:
    """A driver may die while it writes; the next one writes over it."""
    opened(path).add(b"7")
    with path.open("r+b") as file:
        file.seek(2)
        file.write(b"123")
    assert lines(path) == [b"7"]

    opened(path).add(b"8")

    assert lines(path) == [b"7", b"8"]


def test_list_is_bounded(path: Path) -> None:
    """Also the longest ids of as many jobs as there may be have room, with the word after them."""
    first = 10**18
    written = opened(path)
    for number in range(job_lists.MAX_JOBS):
        written.add(b"%d" % (first + number))
    written.add(job_lists.PLACED)
    for number in range(3 * job_lists.MAX_JOBS):
        written.add(b"x%d" % number)

    assert lines(path)[: job_lists.MAX_JOBS + 1][-1] == job_lists.PLACED
    assert path.stat().st_size == job_lists.SIZE


def test_driver_has_no_descriptor_of_the_file(path: Path) -> None:
    """It could make the file larger with one."""
    written = opened(path)

    held = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)}  # noqa: PTH208, PTH115

    assert str(path) not in held
    written.add(b"7")
    assert lines(path) == [b"7"]


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    """Memory behind the end of a file would end the process."""
    (tmp_path / "short").write_bytes(b"7\n")
    with pytest.raises(OSError, match="no list"):
        opened(tmp_path / "short")
    with open(os.devnull, "r+b") as file, pytest.raises(OSError, match="no list"):  # noqa: PTH123
        JobList(file.fileno())
    with pytest.raises(OSError, match="descriptor"):
        JobList(-1)
    (tmp_path / "read").write_bytes(bytes(job_lists.SIZE))
    with (tmp_path / "read").open("rb") as file, pytest.raises(OSError, match="denied"):
        JobList(file.fileno())


def _is_open(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")  # noqa: PTH114
