"""The export of ruptures inside a risk calculation, put off until a core of the driver's machine is idle.

The engine runs the hazard inside the risk, and exports its ruptures before a task of the risk is sent. It
makes an object of each rupture, on one core: for a million of them all workers would wait for minutes. The
tasks of the risk change nothing that this export reads, so the driver does it while it waits for their
outcomes. On a machine without a free core it is done when a worker has nothing left to do, or at the end,
when the engine exports whatever is not exported yet.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from quakegrid import errors
from quakegrid.engine import attributes

RUPTURES = ("ruptures", "csv")
# How long to look whether a core is idle, at least and at most, and for which part of this time it must be.
LOOK_S = 1.0
LONGEST_LOOK_S = 2.0
IDLE_SHARE = 0.9


def _idle_s() -> float:
    """For how long the cores that this process may use were idle, all together, since the machine started."""
    cores = psutil.cpu_times(percpu=True)
    return sum(float(cores[number].idle) for number in os.sched_getaffinity(0) if number < len(cores))


class LateExport:
    """An export that was put off.

    Args:
        idle_s: the sum of the times for which each core was idle.
        now_s: the time.
    """

    def __init__(
        self, idle_s: Callable[[], float] = _idle_s, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._idle_s, self._now_s = idle_s, now_s
        self.is_left_out = False
        self._export: Callable[[], object] | None = None
        self._since_s, self._idle_since_s = -math.inf, 0.0

    def leave_out(self) -> None:
        """The hazard has come to its export."""
        self.is_left_out = True

    def offer(self, export: Callable[[], object]) -> None:
        """The risk is about to send tasks; from now on it may be exported."""
        self._export = export

    @property
    def is_offered(self) -> bool:
        """Whether there is something to export."""
        return self._export is not None

    def forget(self) -> None:
        """It is exported, or the calculation has ended."""
        self.is_left_out, self._export = False, None

    @property
    def due_s(self) -> float:
        """When to look for an idle core again; never, if there is nothing to export."""
        return math.inf if self._export is None else self._since_s + LOOK_S

    def take_turn(self) -> bool:
        """The driver has nothing else to do: export if a core was idle; returns whether it did."""
        if self._export is None:
            return False
        now_s = self._now_s()
        looked_s = now_s - self._since_s
        if looked_s < LOOK_S:
            return False
        idle_s = self._idle_s()
        is_idle = looked_s <= LONGEST_LOOK_S and idle_s - self._idle_since_s >= IDLE_SHARE * looked_s
        self._since_s, self._idle_since_s = now_s, idle_s
        if is_idle:
            self.finish()
        return is_idle

    def finish(self) -> None:
        """Export now what was put off, if there is anything."""
        export, self._export = self._export, None
        if export is not None:
            logging.info("Exporting the ruptures")  # noqa: LOG015 - the job's log
            export()


class Calculators:
    """Lets calculators of the engine leave ruptures out where they are a part of another calculation.

    A part runs while the whole prepares its own tasks, in `pre_execute`.

    Args:
        late_export: of this process; None where calculations wait for no tasks.
    """

    def __init__(self, late_export: Callable[[], LateExport | None]) -> None:
        self._late_export = late_export
        self._preparing_count = 0  # calculations that are in `pre_execute`, one in the other

    def put_off(self, calculator_class: Any) -> None:
        """Wrap the methods of upstream's `HazardCalculator`."""
        for name, wrap in (("_export", self._leave_out), ("pre_execute", self._offer), ("run", self._finish)):
            original = attributes.read(calculator_class, name)
            attributes.replace(calculator_class, name, wrap(original))

    def _leave_out(self, original: Any) -> Any:
        """The export of one output: not yet, if it is of ruptures in a part."""

        def _export(calculator: Any, ekey: tuple[str, str]) -> None:
            late = self._late_export()
            if ekey == RUPTURES and late is not None:
                if self._preparing_count:
                    late.leave_out()
                    return
                late.forget()
            original(calculator, ekey)

        return _export

    def _offer(self, original: Any) -> Any:
        """What comes before the tasks, the parts too: then there may be something to export."""

        def pre_execute(calculator: Any) -> None:
            count = self._preparing_count
            try:
                self._preparing_count = count + 1
                original(calculator)
            finally:
                self._preparing_count = count
            late = self._late_export()
            if late is not None and late.is_left_out and not self._preparing_count:
                late.offer(lambda: calculator._export(RUPTURES))  # noqa: SLF001 - upstream's

        return pre_execute

    def _finish(self, original: Any) -> Any:
        """A whole calculation: if it fails, the files of the hazard are there all the same."""

        def run(calculator: Any, *args: Any, **options: Any) -> Any:
            late = self._late_export()
            try:
                return original(calculator, *args, **options)
            except (errors.QuakeGridError, MemoryError):  # it was aborted, or cannot go on
                raise
            except Exception as exc:
                if late is not None and late.is_offered:
                    logging.error("%s", exc)  # noqa: LOG015, TRY400 - the job's log; the engine tells more later
                    late.finish()
                raise
            finally:
                if late is not None and not self._preparing_count:
                    late.forget()

        return run
