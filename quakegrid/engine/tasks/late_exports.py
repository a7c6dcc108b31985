"""The export of ruptures inside a risk calculation, put off until a core of the driver's machine is idle.

The engine runs the hazard inside the risk, and exports its ruptures before a task of the risk is sent. It
makes an object of each rupture, on one core: for a million of them all workers would wait for minutes. The
tasks of the risk change nothing that this export reads, so the driver does it while it waits for their
outcomes. On a machine without a free core it is done when a worker has nothing left to do, or at the end,
when the engine exports whatever is not exported yet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil

from quakegrid.engine import attributes

RUPTURES = ("ruptures", "csv")
# How long to look whether a core is idle, at least and at most, and for which part of this time it must be.
LOOK_S = 1.0
LONGEST_LOOK_S = 2.0
IDLE_SHARE = 0.9
# Methods of upstream's calculators.
_EXPORT, _PRE_EXECUTE = "_export", "pre_execute"


def _idle_s() -> float:
    """For how long the cores of this machine were idle, all together, since it started."""
    return float(psutil.cpu_times().idle)


class LateExport:
    """An export that was put off. Pure.

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
            export, self._export = self._export, None
            export()
        return is_idle


def put_off(calculator_class: Any, calculators: Any, late_export: Callable[[], LateExport | None]) -> None:
    """Let calculators of the engine leave ruptures out where they are a part of another calculation.

    Args:
        calculator_class: upstream's `HazardCalculator`.
        calculators: upstream's table of calculators, by mode.
        late_export: of this process; None where calculations wait for no tasks.
    """
    export = attributes.read(calculator_class, _EXPORT)
    pre_execute = attributes.read(calculator_class, _PRE_EXECUTE)

    def is_part(calculator: Any) -> bool:
        return calculators[calculator.oqparam.calculation_mode] is not type(calculator)

    def export_or_leave_out(calculator: Any, ekey: tuple[str, str]) -> None:
        late = late_export()
        if ekey == RUPTURES and late is not None:
            if is_part(calculator):
                late.leave_out()
                return
            late.forget()
        export(calculator, ekey)

    def pre_execute_and_offer(calculator: Any) -> None:
        pre_execute(calculator)
        late = late_export()
        if late is not None and late.is_left_out and not is_part(calculator):
            late.offer(partial(export_or_leave_out, calculator, RUPTURES))

    attributes.replace(calculator_class, _EXPORT, export_or_leave_out)
    attributes.replace(calculator_class, _PRE_EXECUTE, pre_execute_and_offer)
