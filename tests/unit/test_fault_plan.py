"""The plan of faults is a pure function of its seed."""

from __future__ import annotations

import subprocess
import sys

from tests.faults.harness.plan import Kind, Scale, Victim, make_plan

SCALE = Scale(duration_s=600, gap_s=2)


def test_same_seed_gives_the_same_plan() -> None:
    """Also in another process, whose hashes of text differ."""
    script = "from tests.faults.harness.plan import *; print(make_plan(7, Scale(duration_s=600, gap_s=2)))"
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert str(make_plan(7, SCALE)) == elsewhere.stdout.strip()
    assert make_plan(7, SCALE) != make_plan(8, SCALE)


def test_plan_has_the_rate_and_stays_in_its_time() -> None:
    """Some faults come in pairs, at the same time."""
    times_s = [fault.at_s for fault in make_plan(1, SCALE)]

    assert times_s == sorted(times_s)
    assert times_s[0] > 0
    assert times_s[-1] < 600
    assert 250 < len(times_s) < 450
    assert len(set(times_s)) < len(times_s)


def test_every_kind_happens_and_only_kills_are_for_good() -> None:
    """What is stopped or cut is mended; the nodes with drivers are back before anybody gives them up."""
    plan = [fault for seed in range(5) for fault in make_plan(seed, SCALE)]

    assert {fault.kind for fault in plan} == set(Kind)
    assert {fault.victim for fault in plan} == set(Victim)
    assert all((fault.duration_s == 0) == (fault.kind is Kind.KILL) for fault in plan)
    assert max(fault.duration_s for fault in plan if fault.node != SCALE.node_count) <= 10
    assert max(fault.duration_s for fault in plan) == 60


def test_work_that_must_complete_keeps_its_drivers() -> None:
    """Without kills of drivers, command lines, or the master's agent above them."""
    gentle = Scale(duration_s=600, gap_s=1, with_drivers=False, with_disk=False)

    plan = make_plan(3, gentle)

    assert not [f for f in plan if f.kind is Kind.KILL and f.victim in (Victim.DRIVER, Victim.COMMAND_LINE)]
    assert not [f for f in plan if f.victim is Victim.AGENT and f.node == 0]
    assert not [f for f in plan if f.kind is Kind.FILL]
