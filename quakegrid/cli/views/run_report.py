"""The report of a run, gathered from the driver's events; pure.

Interprets the events and computes the exit code; prints nothing.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any

from quakegrid import errors

# Codes of a driver that say more than "failed".
_PASSED_ON = frozenset({errors.EXIT_USAGE, errors.EXIT_UNREACHABLE})
_STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One output of a job, as the driver tells at its end."""

    id: int
    name: str
    ds_key: str


@dataclass(slots=True)
class JobResult:
    """One job of the run, as far as it is known."""

    job_id: int
    description: str = ""
    calculation_mode: str = ""
    state: str = "executing"
    datastore: str = ""
    outputs: list[OutputRow] = field(default_factory=list)
    error: str | None = None


@dataclass(slots=True)
class RunReport:
    """All jobs of one run; `error` says why a job could not be made.

    `not_exported` has a line for each output that could not be exported. `is_left` tells that the jobs go on
    without the command.
    """

    jobs: dict[int, JobResult] = field(default_factory=dict)
    error: str | None = None
    exported: list[str] = field(default_factory=list)
    not_exported: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    exit_code: int = 0
    is_left: bool = False

    def take(self, event: dict[str, Any]) -> None:
        """Take note of one event; those that only tell of progress change nothing."""
        match event:
            case {"event": "job", "job_id": int(job_id)}:
                job = self._job(job_id)
                job.description = str(event.get("description", ""))
                job.calculation_mode = str(event.get("calculation_mode", ""))
            case {"event": "error", "job_id": int(job_id)}:
                self._job(job_id).error = _error_line(event)
            case {"event": "error"}:
                self.error = _error_line(event)
            case {"event": "end", "job_id": int(job_id), "state": str(state)}:
                job = self._job(job_id)
                job.state = state
                job.error = job.error or str(event.get("reason") or "") or None
                job.datastore = str(event.get("datastore") or "")
                self.duration_s = float(event.get("duration_s") or 0.0)
                job.outputs = [OutputRow(int(item[0]), item[1], item[2]) for item in event.get("outputs", ())]
            case {"event": "exported", "paths": list(paths)}:
                self.exported.extend(str(path) for path in paths)
            case {"event": "not_exported", "failures": list(failures)}:
                self.not_exported.extend(str(each) for each in failures)

    def leave(self, signal_number: int, duration_s: float) -> None:
        """Conclude while the calculation goes on.

        Args:
            signal_number: of the signal that ended the command; 0 if a person wanted to leave.
            duration_s: wall time until then.
        """
        self.duration_s, self.is_left = duration_s, True
        self.exit_code = 128 + signal_number if signal_number else errors.EXIT_CLEAN

    def close(self, driver_code: int, duration_s: float) -> None:
        """Conclude from the driver's end; jobs without an end of their own share it.

        Args:
            driver_code: exit code of the driver, 128 + n if signal n killed it.
            duration_s: wall time of the run.
        """
        self.duration_s = duration_s
        is_stopped = driver_code == errors.EXIT_STOPPED or driver_code - 128 in _STOP_SIGNALS
        for job in self.jobs.values():
            if job.state == "executing":
                job.state = "aborted" if is_stopped else "failed"
                if not is_stopped:
                    job.error = job.error or f"the driver ended with {_end_text(driver_code)}"
        states = {job.state for job in self.jobs.values()}
        if (
            driver_code
            and not self.error
            and not self.not_exported
            and states <= {"complete"}
            and not is_stopped
        ):
            self.error = f"the driver ended with {_end_text(driver_code)}"
        if "aborted" in states or is_stopped:
            self.exit_code = errors.EXIT_STOPPED
        elif "failed" in states or self.error or self.not_exported:
            self.exit_code = driver_code if driver_code in _PASSED_ON else errors.EXIT_FAILED

    def open_job_ids(self) -> list[int]:
        """Jobs that have not ended yet."""
        return [job.job_id for job in self.jobs.values() if job.state == "executing"]

    def _job(self, job_id: int) -> JobResult:
        return self.jobs.setdefault(job_id, JobResult(job_id))


def _error_line(event: dict[str, Any]) -> str:
    message = " ".join(str(event.get("message", "")).split())
    kind = str(event.get("kind", ""))
    return f"{kind}: {message}" if kind else message


def _end_text(code: int) -> str:
    if code > 128:
        try:
            return signal.Signals(code - 128).name
        except ValueError:
            pass
    return f"exit code {code}"
