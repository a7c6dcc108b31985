"""Wraps functions of the engine that run a calculation: with its session, its hold, its signals."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

from quakegrid.engine import this_process
from quakegrid.engine.driver import stops
from quakegrid.engine.driver.process import DriverProcess


def insist_on_signals(original: Any) -> Any:
    """Upstream's signal handler, which raises; see `DriverProcess.insist`."""

    def manage_signals(job_id: int, number: int, frame: FrameType | None) -> None:
        driver = this_process.current()
        if isinstance(driver, DriverProcess) and number in stops.SIGNAL_WORDS:
            driver.note_signal(number)
            if number != signal.SIGHUP:
                driver.insist(number)
        original(job_id, number, frame)

    return manage_signals


def run_jobs_in_session(original: Any) -> Any:
    """Upstream's `run_jobs`, holding a session; jobs of one call run one after the other."""

    def run_jobs(
        jobctxs: Sequence[Any],
        concurrent_jobs: int | None = None,  # noqa: ARG001 - upstream would start unseamed processes
        nodes: int = 1,
        sbatch: bool = False,
        notify_to: str | None = None,
        precalc: bool = False,
    ) -> Any:
        driver = this_process.current()
        assert isinstance(driver, DriverProcess)
        job_ids = [job.calc_id for job in jobctxs]
        with driver.database.hold_jobs(job_ids), driver.session_of(job_ids):
            return original(jobctxs, 1, nodes, sbatch, notify_to, precalc)

    return run_jobs
