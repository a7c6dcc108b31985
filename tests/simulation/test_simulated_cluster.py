"""A slice of the simulation, its determinism, and its power to find bugs and to tell of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation import mutants, runs, shrinking
from tests.simulation.bugs import MUTANTS, Edit
from tests.simulation.fabric.faults import FaultKey, FaultKind, Faults
from tests.unit.house.test_imports import ROOT

# Fixed ones: `make simulate` runs others.
SLICE = range(1, 26)
DIGESTS = """
import sys
from tests.simulation import runs
print(*[runs.run_seed(int(seed)).digest for seed in sys.argv[1:]])
"""


def test_no_promise_is_broken() -> None:
    """Whatever goes wrong in these worlds."""
    found = [run for seed in SLICE if (run := runs.run_seed(seed)).violation]

    assert [f"seed {run.seed}: {run.violation}" for run in found] == []


def test_same_seed_is_the_same_run_in_any_process() -> None:
    """No order of a set, no address and no clock of this machine decides anything."""
    seeds = [3, 6]
    here = [runs.run_seed(seed).digest for seed in seeds]

    command = [sys.executable, "-c", DIGESTS, *map(str, seeds)]
    environ = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)

    assert done.stdout.split() == here
    assert [runs.run_seed(seed).digest for seed in seeds] == here


def test_every_mutant_still_applies() -> None:
    """Code that moves takes its mutants along."""
    for mutant in MUTANTS:
        with mutants.applied(mutant):
            pass


def test_mutant_whose_code_is_gone_fails_loudly() -> None:
    """It would find nothing for ever."""
    gone = Edit("quakegrid.session.retelling:Retelling.end", "what was never there", "")
    away = Edit("quakegrid.session.retelling:Retelling.nothing", "", "")

    for edit in (gone, away):
        with pytest.raises(mutants.MutantGoneError):
            mutants.changed(edit)


def test_bug_is_found_replayed_and_told_with_few_faults() -> None:
    """A dbserver that does each request again, however often it is sent."""
    mutant = next(each for each in MUTANTS if each.name == "request-done-twice")
    with mutants.applied(mutant):
        found = next(run for seed in range(1, 100) if (run := runs.run_seed(seed)).violation)
        again = shrinking.replay(found.seed)
        lines = shrinking.story(found)
    fault_count, kept_count = (int(words.split()[0]) for words in lines[1].split(", "))

    assert again == found
    told = "\n".join(lines)
    assert "one request made the jobs" in told
    assert "is lost, so that it is asked again" in told
    assert 0 < kept_count < fault_count == len(found.faults)
    assert not runs.run_seed(found.seed).violation


def test_faults_happen_only_where_they_may() -> None:
    """Not after their time, not of a kind that the seed leaves out, and of a list only those in it."""
    late, other = FaultKey(FaultKind.LATE, "here", 1), FaultKey(FaultKind.LATE, "here", 2)
    kinds = frozenset({FaultKind.LATE})

    free, listed = Faults(1, None, 10.0, kinds), Faults(1, frozenset({late}), 10.0, kinds)

    assert free.may(late, 9.0)
    assert not free.may(late, 11.0)
    assert not free.may(FaultKey(FaultKind.CUT, "here", 1), 9.0)
    assert listed.may(late, 9.0)
    assert not listed.may(other, 9.0)
