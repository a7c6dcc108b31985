"""What a person sees of a calculation that is followed, and the report that is gathered from it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from quakegrid.cli.following.interrupts import Interrupts
from quakegrid.cli.views.run_report import RunReport

if TYPE_CHECKING:
    from quakegrid.cli.views.progress import Display

Event = dict[str, Any]


class ReportView:
    """Notes what happens in a report, and shows it.

    Args:
        report: takes every event.
        interrupts: told when the calculation may be left, and whether it may be aborted.
        verbose: show all of the log.
    """

    def __init__(self, report: RunReport, interrupts: Interrupts, *, verbose: bool) -> None:
        self._report, self._interrupts, self._verbose = report, interrupts, verbose
        self._display: Display | None = None
        self._is_detachable = False

    def show(self, event: Event) -> None:
        """Take an event of the calculation."""
        self._is_detachable |= event["event"] == "detachable"
        if "is_own" in event:
            self._interrupts.may_abort = bool(event["is_own"])
        self._report.take(event)
        # What cannot be named cannot be found again.
        self._interrupts.may_leave = self._is_detachable and bool(self._report.jobs)
        if event["event"] == "aborting":
            jobs = " and ".join(f"job {job_id}" for job_id in self._report.open_job_ids())
            event = {"event": "log", "level": "WARNING", "message": f"aborting {jobs or 'the run'} ..."}
        self._opened().show(event)

    def ask(self, is_asking: bool) -> None:
        """Show the question what Ctrl-C shall mean, or hide it."""
        self._opened().ask(is_asking)

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._display is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._display.close()

    def _opened(self) -> Display:
        if self._display is None:
            from quakegrid.cli.views import progress  # noqa: PLC0415 - while the driver works

            self._display = progress.open_display(verbose=self._verbose)
        return self._display
