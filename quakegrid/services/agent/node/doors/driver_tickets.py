"""Tickets of drivers whose calculations go on by themselves: what was asked for, and which jobs came of it.

A ticket is a file of the agent's user, and a second one into which the driver writes the ids of its jobs: see
`quakegrid.journals.job_lists`. Both outlive the agent. After a loss of power the list may lack what was
written last, since the driver's memory is the file's; a ticket without jobs is removed. Both go when the
driver has ended for good.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from quakegrid.journals import job_lists

log = logging.getLogger("quakegrid.agent")
FOLDER = "drivers"
MAX_ID = 2**63 - 1
_SUFFIX = ".driver.json"
# Of a request: the certificate of a driver, which has ended. It is not written down.
_PROOF = "proof"
Request = dict[str, Any]


@dataclass(slots=True)
class DriverTicket:
    """A list of jobs, open for a driver.

    Args:
        jobs_fd: the list.
        path: where the request is written down; None if it is not.
        is_kept: whether a driver that dies is followed by another one.
    """

    jobs_fd: int
    path: Path | None = None
    is_kept: bool = True
    _earlier_places: int = 0

    @classmethod
    def unwritten(cls, *, is_kept: bool = False) -> Self:
        """For a driver that nobody starts again when its agent has died.

        Raises:
            OSError: there is no descriptor left.
        """
        fd = os.memfd_create("driver_jobs", os.MFD_CLOEXEC)
        job_lists.reserve(fd)
        return cls(fd, is_kept=is_kept)

    @classmethod
    def written(cls, folder: Path, request: Request) -> Self:
        """For a driver that is started again if it dies. After a full disk the next agent does not do so.

        Raises:
            OSError: there is no descriptor left.
        """
        path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        ticket = cls(-1, path)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new(path, json.dumps({**request, _PROOF: None}).encode())
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            ticket.jobs_fd = os.open(_jobs_path(path), flags, 0o600)
            job_lists.reserve(ticket.jobs_fd)
        except OSError as exc:
            log.warning("driver_not_written_down reason=%s", exc)
            with contextlib.suppress(OSError):
                ticket.remove()
            return cls.unwritten(is_kept=True)
        return ticket

    @property
    def job_ids(self) -> list[int]:
        """The ids that the driver has written, each once."""
        return list(dict.fromkeys(_ids(self.jobs_fd)))[: job_lists.MAX_JOBS]

    def begin_again(self) -> None:
        """Another driver gets the list: its jobs have no place. Nothing is written: the disk may be full."""
        self._earlier_places = self._place_count

    @property
    def has_place(self) -> bool:
        """Whether the jobs have their place in the queue, as the driver has written."""
        return self._place_count > self._earlier_places

    @property
    def _place_count(self) -> int:
        return job_lists.lines_of(self.jobs_fd).count(job_lists.PLACED)

    def close(self) -> None:
        """Let go of the files; they stay for the next agent."""
        if self.jobs_fd >= 0:
            os.close(self.jobs_fd)
            self.jobs_fd = -1

    def remove(self) -> None:
        """The driver has ended for good."""
        self.close()
        if self.path is not None:
            _remove(self.path)


def left(folder: Path) -> list[tuple[DriverTicket, Request]]:
    """The tickets that an earlier agent has left, with their requests; those of the oldest jobs first."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        try:
            request = json.loads(path.read_bytes())
            jobs = os.open(_jobs_path(path), os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, ValueError):  # its agent died while it wrote it: there was no driver yet
            _remove(path)
        except OSError as exc:
            log.warning("driver_not_taken_up path=%s reason=%s", path, exc)
        else:
            found.append((DriverTicket(jobs, path), request))
    for ticket, _request in found:
        if not ticket.job_ids:  # it had not made a job
            ticket.remove()
    return sorted([each for each in found if each[0].jobs_fd >= 0], key=lambda each: each[0].job_ids)


def _ids(fd: int) -> list[int]:
    """All ids that a driver has written. What is no id of a job is passed over."""
    numbers = [int(line) for line in job_lists.lines_of(fd) if line.isdigit() and len(line) < 20]
    return [number for number in numbers if 0 < number <= MAX_ID]


def _jobs_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(_SUFFIX) + ".jobs")


def _remove(path: Path) -> None:
    """Remove both files of a ticket."""
    path.unlink(missing_ok=True)
    _jobs_path(path).unlink(missing_ok=True)


def _write_new(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
