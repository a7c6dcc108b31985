"""The plan of faults is a pure function of its seed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.harness.injector import COME_BACK_S, Outages
from tests.faults.harness.plan import FOR_GOOD, Kind, Scale, Victim, make_plan

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


def test_every_kind_happens_and_what_is_mended_is_mended_in_time() -> None:
    """The nodes with drivers are back before anybody gives them up."""
    plan = [fault for seed in range(5) for fault in make_plan(seed, SCALE)]

    assert {fault.kind for fault in plan} == set(Kind)
    assert {fault.victim for fault in plan} == set(Victim)
    assert all((fault.duration_s == 0) == (fault.kind in FOR_GOOD) for fault in plan)
    named = [fault for fault in plan if fault.victim is not Victim.SESSION]
    assert max(fault.duration_s for fault in named if fault.node != SCALE.node_count) <= 10
    assert max(fault.duration_s for fault in plan) == 60


def test_links_are_cut_around_ends_and_aborts_of_sessions() -> None:
    """Every way, for the times that the scale names; which node is known when the session has its workers."""
    plan = [fault for seed in range(20) for fault in make_plan(seed, SCALE)]
    around = [fault for fault in plan if fault.victim is Victim.SESSION]

    assert {fault.kind for fault in around} == {Kind.CUT_END, Kind.CUT_ABORT}
    assert {fault.duration_s for fault in around} == set(SCALE.end_s)
    assert {fault.node for fault in around} == {-1}
    assert len({fault.way for fault in around}) == 3


def test_workers_alone_are_stopped_for_good() -> None:
    """The agent ends a worker that stays stopped; nobody promises that of anything else."""
    plan = [fault for seed in range(20) for fault in make_plan(seed, SCALE)]

    assert {fault.victim for fault in plan if fault.kind is Kind.SUSPEND} == {Victim.WORKER}
    assert {fault.victim for fault in plan if fault.kind is Kind.RESTART} == {Victim.TEMPLATE}


def test_drivers_and_all_above_them_are_killed() -> None:
    """On the master, too, where calculations have their drivers, and in every run: nothing is left out."""
    plan = make_plan(3, Scale(duration_s=600, gap_s=1, with_disk=False))
    kills = [fault for fault in plan if fault.kind is Kind.KILL]

    assert {Victim.DRIVER, Victim.COMMAND_LINE} <= {fault.victim for fault in kills}
    for victim in (Victim.AGENT, Victim.TEMPLATE, Victim.NODE):
        assert 0 in {fault.node for fault in kills if fault.victim is victim}
    assert not [fault for fault in plan if fault.kind is Kind.FILL]


def test_cuts_after_one_another_are_one_outage() -> None:
    """Unless the link was whole for long enough for drivers to come back; each node counts by itself."""
    outages = Outages()

    assert outages.add_cut(2, 100.0, 10.0) == pytest.approx(10.0)
    assert outages.add_cut(2, 112.5, 10.0) == pytest.approx(22.5)
    assert outages.add_cut(2, 113.0, 1.0) == pytest.approx(22.5)  # within the last
    assert outages.add_cut(1, 113.0, 10.0) == pytest.approx(10.0)
    assert outages.add_cut(2, 122.5 + COME_BACK_S + 0.1, 3.0) == pytest.approx(3.0)
