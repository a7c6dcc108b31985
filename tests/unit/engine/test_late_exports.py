"""Ruptures are exported late and once, whether a core becomes idle or not; calculators are played."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.engine.tasks import late_exports
from quakegrid.engine.tasks.late_exports import LOOK_S, RUPTURES, Calculators, LateExport

CURVES = ("hcurves", "csv")


class Machine:
    """Cores that are idle or not, and a clock."""

    def __init__(self) -> None:
        self.now_s, self.idle_s = 100.0, 5000.0

    def late_export(self) -> LateExport:
        """One that looks at this machine."""
        return LateExport(lambda: self.idle_s, lambda: self.now_s)

    def go_on(self, for_s: float, idle_cores: float) -> None:
        """Some time goes by."""
        self.now_s += for_s
        self.idle_s += for_s * idle_cores


@pytest.fixture
def machine() -> Machine:
    """Has two cores."""
    return Machine()


def test_driver_that_has_nothing_to_export_does_not_look(machine: Machine) -> None:
    """And waits as long as it likes."""
    late = machine.late_export()

    assert not late.take_turn()
    assert late.due_s == math.inf


@pytest.mark.parametrize(("idle_cores", "is_done"), [(0.0, False), (0.8, False), (1.0, True), (2.0, True)])
def test_it_is_exported_when_a_core_was_idle(machine: Machine, idle_cores: float, is_done: bool) -> None:
    """For as long as it looks."""
    late, done = machine.late_export(), []
    late.offer(lambda: done.append(1))
    assert not late.take_turn()
    machine.go_on(LOOK_S / 2, idle_cores)
    assert not late.take_turn()
    machine.go_on(late.due_s - machine.now_s, idle_cores)

    assert late.take_turn() is is_done
    assert done == [1] * is_done
    assert not late.take_turn()
    assert late.due_s == (math.inf if is_done else machine.now_s + LOOK_S)


def test_idleness_of_before_counts_for_nothing(machine: Machine) -> None:
    """Such as that of steps that run on one core, before the driver waits."""
    late, done = machine.late_export(), []
    late.offer(lambda: done.append(1))
    late.take_turn()
    machine.go_on(60.0, 1.0)

    assert not late.take_turn()
    machine.go_on(LOOK_S, 0.0)
    assert not late.take_turn()
    machine.go_on(LOOK_S, 1.0)
    assert late.take_turn()
    assert done == [1]


def test_what_was_forgotten_is_not_exported(machine: Machine) -> None:
    """Its calculation has ended."""
    late = machine.late_export()
    late.leave_out()
    late.offer(lambda: pytest.fail("it is over"))
    late.take_turn()
    late.forget()
    machine.go_on(LOOK_S, 2.0)

    assert not late.take_turn()
    assert not late.is_left_out


class Calculator:
    """As the engine's: exports each output once, and hands on what it has exported."""

    precalc: type[Calculator] | None = None

    def __init__(self, files: list[tuple[str, str]], on_tasks: Callable[[], object]) -> None:
        self.files, self._on_tasks = files, on_tasks
        self.exported: dict[tuple[str, str], bool] = {}

    def _export(self, ekey: tuple[str, str]) -> None:
        if not self.exported.get(ekey):
            self.exported[ekey] = True
            self.files.append(ekey)

    def pre_execute(self) -> None:
        """Run the calculation that comes before this one."""
        if self.precalc is not None:
            before = self.precalc(self.files, lambda: None)
            before.run()
            self.exported = before.exported

    def run(self) -> None:
        """Run it whole."""
        self.pre_execute()
        self._on_tasks()
        for ekey in (CURVES, RUPTURES):
            self._export(ekey)


class Harness:
    """Classes of calculators that put exports off, and what was exported when.

    Args:
        machine: where the driver runs.
        has_driver: whether this process runs calculations on the cluster.
    """

    def __init__(self, machine: Machine, *, has_driver: bool = True) -> None:
        class Hazard(Calculator):
            pass

        class Risk(Hazard):
            precalc = Hazard

        self.machine, self.late, self.files = machine, machine.late_export(), list[tuple[str, str]]()
        self.hazard, self.risk = Hazard, Risk
        Calculators(lambda: self.late if has_driver else None).put_off(Hazard)

    def run(self, calculator_class: type[Calculator], *, idle_cores: float) -> list[tuple[str, str]]:
        """Run a calculation; returns what was exported before its tasks ended."""
        early: list[tuple[str, str]] = []

        def wait_for_tasks() -> None:
            for _ in range(5):
                self.late.take_turn()
                self.machine.go_on(LOOK_S, idle_cores)
            early.extend(self.files)

        calculator_class(self.files, wait_for_tasks).run()
        return early


def test_ruptures_are_exported_while_tasks_run_on_other_machines(machine: Machine) -> None:
    """Everything else when the engine does."""
    harness = Harness(machine)

    assert harness.run(harness.risk, idle_cores=2.0) == [CURVES, RUPTURES]
    assert harness.files == [CURVES, RUPTURES]
    assert harness.late.due_s == math.inf


def test_ruptures_are_exported_at_the_end_where_all_cores_work(machine: Machine) -> None:
    """Once."""
    harness = Harness(machine)

    assert harness.run(harness.risk, idle_cores=0.0) == [CURVES]
    assert harness.files == [CURVES, RUPTURES]
    assert not harness.late.is_left_out


def test_hazard_alone_exports_as_ever(machine: Machine) -> None:
    """It has nobody who would do it later."""
    harness = Harness(machine)

    assert harness.run(harness.hazard, idle_cores=2.0) == []
    assert harness.files == [CURVES, RUPTURES]


@pytest.mark.parametrize("failure", [errors.StateError("aborted"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("comes_at", ["an export of the part", "the tasks"])
def test_calculation_after_one_that_was_interrupted_exports_as_ever(
    machine: Machine, failure: BaseException, comes_at: str
) -> None:
    """In the same process, such as a shell: nothing of the first one is left."""
    harness = Harness(machine)
    files: Any = [] if comes_at == "the tasks" else Interrupting(failure)
    first = harness.risk(files, lambda: fail(failure))
    with pytest.raises(type(failure)):
        first.run()

    assert harness.run(harness.hazard, idle_cores=2.0) == []
    assert harness.files == [CURVES, RUPTURES]


class Interrupting(list[object]):
    """Files that cannot be written, as somebody interrupts."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__()
        self._failure = failure

    def append(self, _file: object) -> None:
        """Interrupt."""
        raise self._failure


def fail(failure: BaseException) -> None:
    """As a task does, or the driver."""
    raise failure


@pytest.mark.parametrize(
    ("failure", "is_exported"),
    [(RuntimeError("in a task"), True), (errors.StateError("aborted"), False), (KeyboardInterrupt(), False)],
    ids=["failed", "aborted", "interrupted"],
)
def test_ruptures_of_a_risk_that_fails_are_exported(
    machine: Machine, failure: BaseException, is_exported: bool
) -> None:
    """As the engine does, but not of one that shall end now."""
    harness = Harness(machine)

    with pytest.raises(type(failure)):
        harness.risk(harness.files, lambda: fail(failure)).run()

    assert harness.files == [CURVES, *[RUPTURES] * is_exported]


def test_failure_is_told_as_it_is_where_nothing_was_put_off(machine: Machine) -> None:
    """In a hazard, and without a driver."""
    for harness in (Harness(machine), Harness(machine, has_driver=False)):
        with pytest.raises(RuntimeError, match="in a task"):
            harness.hazard(harness.files, lambda: fail(RuntimeError("in a task"))).run()
        assert harness.files == []


def test_calculation_that_runs_another_one_for_comparison_exports_as_ever(machine: Machine) -> None:
    """Such as an event-based hazard a classical one, after its tasks."""
    harness = Harness(machine)
    other = harness.hazard([], lambda: None)

    harness.hazard(harness.files, other.run).run()

    assert harness.files == [CURVES, RUPTURES]


def test_process_without_a_driver_exports_as_the_engine_does(machine: Machine) -> None:
    """Before the tasks of the risk."""
    harness = Harness(machine, has_driver=False)

    assert harness.run(harness.risk, idle_cores=0.0) == [CURVES, RUPTURES]


def test_times_of_the_machine_are_read() -> None:
    """They never fall."""
    before_s = late_exports._idle_s()

    assert late_exports._idle_s() >= before_s > 0.0
