"""joblib's own interface, on a cluster of real processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from quakegrid import LocalCluster, errors
from quakegrid.sdk import joblib_backend
from tests.support.calls import sdk_calls


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


def squares(count: int) -> list[int]:
    """What the cluster should find."""
    return [number * number for number in range(count)]


def test_parallel_runs_on_the_cluster_in_order(cluster: LocalCluster) -> None:
    """Tiny calls are packed, results come in order, and from other processes."""
    with cluster.joblib():
        found = joblib.Parallel()(joblib.delayed(sdk_calls.square)(number) for number in range(3000))
        pids = set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(20)))

    assert found == squares(3000)
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_calls_of_a_block_share_workers(cluster: LocalCluster) -> None:
    """Workers stay from one `Parallel` to the next, and go with the block."""
    with cluster.joblib():
        pids = [set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(50))) for _ in range(4)]
    after = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(2))

    assert len(set.union(*pids)) <= 2
    assert set(after) == {os.getpid()}


def test_backend_has_a_name(cluster: LocalCluster) -> None:
    """For programs that choose by name."""
    joblib_backend.register()

    with joblib.parallel_config(backend="quakegrid", cluster=cluster):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(sdk_calls.square)(n) for n in range(9)) == squares(9)


@pytest.mark.parametrize(("n_jobs", "count"), [(-1, 2), (-2, 1), (-9, 1), (1, 1), (2, 2), (50, 2)])
def test_jobs_are_counted_as_joblib_does(cluster: LocalCluster, n_jobs: int, count: int) -> None:
    """Below zero from the cores of the cluster, and never more than these."""
    with cluster.joblib():
        assert joblib.effective_n_jobs(n_jobs) == count


def test_no_jobs_mean_nothing(cluster: LocalCluster) -> None:
    """As joblib says."""
    with cluster.joblib(n_jobs=0), pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.Parallel()([])


def test_one_job_runs_in_the_program(cluster: LocalCluster) -> None:
    """As joblib does with every backend."""
    with cluster.joblib(n_jobs=1):
        assert joblib.Parallel()([joblib.delayed(os.getpid)()]) == [os.getpid()]


def test_exception_comes_with_its_traceback_and_the_next_call_works(cluster: LocalCluster) -> None:
    """The first error ends the call."""
    with cluster.joblib():
        with pytest.raises(KeyError, match="lost") as caught:
            joblib.Parallel()(joblib.delayed(sdk_calls.fail)("lost") for _ in range(10))
        again = joblib.Parallel()(joblib.delayed(sdk_calls.square)(number) for number in range(5))

    assert "raise KeyError(message)" in str(caught.value.__cause__)
    assert again == squares(5)


def test_what_runs_is_stopped_after_an_error(cluster: LocalCluster, tmp_path: Path) -> None:
    """A call that would never end is no hindrance, in a managed `Parallel` neither."""
    never = str(tmp_path / "never")
    calls = [joblib.delayed(sdk_calls.wait_for)(never), joblib.delayed(sdk_calls.fail)("lost")]

    with cluster.joblib(), joblib.Parallel() as parallel:
        with pytest.raises(KeyError, match="lost"):
            parallel(calls)
        assert parallel(joblib.delayed(sdk_calls.square)(number) for number in range(5)) == squares(5)


def test_timeout_ends_the_call(cluster: LocalCluster, tmp_path: Path) -> None:
    """`Parallel(timeout=)` is honoured."""
    with cluster.joblib(), pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=0.2)([joblib.delayed(sdk_calls.wait_for)(str(tmp_path / "never"))])


def test_arguments_that_cannot_be_pickled(cluster: LocalCluster) -> None:
    """The error names the reason."""
    with cluster.joblib(), pytest.raises(errors.PayloadError, match="cannot be pickled"):
        joblib.Parallel()([joblib.delayed(sdk_calls.square)(sys.stdout)])


def test_tasks_run_their_own_parallel_one_by_one(cluster: LocalCluster) -> None:
    """A worker has one core, and cannot submit."""
    with cluster.joblib():
        found = joblib.Parallel()(joblib.delayed(sdk_calls.sum_nested)(count) for count in range(4))

    assert found == [("SequentialBackend", sum(squares(count))) for count in range(4)]


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_can_be_taken_one_by_one(cluster: LocalCluster, return_as: str) -> None:
    """`return_as` works; lambdas and arrays travel as always."""
    with cluster.joblib():
        results = joblib.Parallel(return_as=return_as)(
            joblib.delayed(lambda array: array + 1)(np.full(20_000, number)) for number in range(20)
        )
        found = sorted(int(array[0]) for array in results)

    assert found == list(range(1, 21))
