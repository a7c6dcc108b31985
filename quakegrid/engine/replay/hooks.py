"""Wraps functions of the engine around a calculation: with its journal, and its number of tasks."""

from __future__ import annotations

from typing import Any

from quakegrid.engine import this_process
from quakegrid.engine.driver.process import DriverProcess
from quakegrid.engine.replay import pins


def run_with_journal(original: Any) -> Any:
    """Upstream's `run_calc`, with the journal of its job."""

    def run_calc(log: Any, *args: Any, **kwargs: Any) -> Any:
        driver = this_process.current()
        assert isinstance(driver, DriverProcess)
        try:
            with driver.journals.running(log.calc_id):
                return original(log, *args, **kwargs)
        finally:
            driver.starmaps.journal = driver.journals.current

    return run_calc


def begin_journal(original: Any) -> Any:
    """Upstream's choice of the number of tasks, by the workers that there are; a resumed job keeps its first.

    The calculation has read its parameters then, and nothing else.
    """

    def set_concurrent_tasks_default(calc: Any, *args: Any) -> None:
        driver = this_process.current()
        assert isinstance(driver, DriverProcess)
        parent = pins.parent_job(driver.database.call, calc.oqparam)
        driver.journals.begin(calc.oqparam, parent, lambda: original(calc, *args))
        driver.starmaps.journal = driver.journals.current

    return set_concurrent_tasks_default
