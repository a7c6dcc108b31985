"""What one bad call does: a clear error for its own future, and nothing for any other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any

import pytest

from quakegrid import ClusterExecutor, LocalCluster, errors, local_services
from tests.integration import sdk_calls


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


@pytest.fixture
def executor(cluster: LocalCluster) -> Iterator[ClusterExecutor]:
    """A fresh executor."""
    with cluster.executor() as executor:
        yield executor


def among_others(executor: ClusterExecutor, function: Any, *args: Any) -> Future[Any]:
    """Submit a call in the middle of 200 innocent ones, all of which succeed."""
    executor.submit(sdk_calls.square, 0).result()
    before = [executor.submit(sdk_calls.square, number) for number in range(100)]
    bad = executor.submit(function, *args)
    after = [executor.submit(sdk_calls.square, number) for number in range(100)]

    assert [future.result() for future in before + after] == 2 * [number * number for number in range(100)]
    return bad


def test_arguments_that_cannot_be_pickled(executor: ClusterExecutor) -> None:
    """The error names the function and the reason."""
    future = among_others(executor, sdk_calls.square, threading.Lock())

    with pytest.raises(errors.PayloadError, match=r"square or its arguments cannot be pickled: .*lock"):
        future.result()


def test_arguments_that_cannot_be_unpickled(executor: ClusterExecutor) -> None:
    """The worker says so."""
    future = among_others(executor, sdk_calls.square, sdk_calls.Unloadable())

    with pytest.raises(errors.PayloadError, match="cannot be unpickled on the worker: ValueError"):
        future.result()


def test_function_that_the_worker_cannot_import(
    executor: ClusterExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that only the client has."""
    (tmp_path / "only_here.py").write_text("def here():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    future = among_others(executor, only_here.here)

    with pytest.raises(errors.PayloadError, match="ModuleNotFoundError: No module named 'only_here'"):
        future.result()


def test_result_that_cannot_be_pickled(executor: ClusterExecutor) -> None:
    """The error names what it was."""
    future = among_others(executor, sdk_calls.lock)

    with pytest.raises(errors.PayloadError, match="result, a lock, cannot be pickled"):
        future.result()


@pytest.mark.parametrize("function", [sdk_calls.fail_pickily, sdk_calls.fail_locked])
def test_exception_that_cannot_travel(executor: ClusterExecutor, function: Any) -> None:
    """Its name, its words and its traceback come instead."""
    future = among_others(executor, function)

    with pytest.raises(errors.PayloadError, match=r"raised an exception that cannot .*(Picky|Locked)Error"):
        future.result()
    assert function.__name__ in str(getattr(future.exception(), "__cause__", ""))


@pytest.mark.parametrize(
    ("function", "args", "words"),
    [
        (sdk_calls.leave, (3,), r"called sys\.exit\(3\)"),
        (sdk_calls.interrupt, (), "raised KeyboardInterrupt"),
    ],
)
def test_task_that_tries_to_end_the_program(
    executor: ClusterExecutor, function: Any, args: tuple[Any, ...], words: str
) -> None:
    """It ends nothing but itself."""
    future = among_others(executor, function, *args)

    with pytest.raises(errors.TaskError, match=words):
        future.result()


def test_task_that_kills_its_workers(executor: ClusterExecutor) -> None:
    """It is given up, with every attempt named; calls that travelled with it succeed."""
    future = among_others(executor, sdk_calls.kill_me)

    with pytest.raises(errors.TaskKilledError) as caught:
        future.result()
    assert "kill_me" in str(caught.value)
    assert "ended its worker 3 times" in str(caught.value)
    assert "attempt 3 on" in str(caught.value) or "attempt 4 on" in str(caught.value)
    assert "SIGKILL" in str(caught.value)


def test_several_killers_end_nobody_else(executor: ClusterExecutor) -> None:
    """Each is found out; the executor goes on."""
    killers = [executor.submit(sdk_calls.kill_me) for _ in range(4)]
    innocents = [executor.submit(sdk_calls.square, number) for number in range(50)]

    assert [future.result() for future in innocents] == [number * number for number in range(50)]
    assert all(isinstance(future.exception(), errors.TaskKilledError) for future in killers)


def test_sum_is_exact_when_a_worker_is_killed(executor: ClusterExecutor, tmp_path: Path) -> None:
    """A death in the middle of 2,000 calls costs time only."""
    futures = [executor.submit(sdk_calls.square, number) for number in range(1000)]
    futures.append(executor.submit(sdk_calls.kill_once, str(tmp_path / "killed"), 7))
    futures += [executor.submit(sdk_calls.square, number) for number in range(1000)]

    assert sum(future.result() for future in futures) == 7 + 2 * sum(n * n for n in range(1000))
    assert (tmp_path / "killed").exists()


def test_executor_breaks_when_the_broker_is_gone(tmp_path: Path) -> None:
    """What waits fails with the reason, and nothing more is taken."""
    with LocalCluster(cores=1) as cluster:
        executor = cluster.executor()
        held = executor.submit(sdk_calls.wait_for, str(tmp_path / "never"))
        os.kill(local_services.running(cluster.settings)["broker"].pid, signal.SIGKILL)

        with pytest.raises(BrokenExecutor, match="session ended"):
            held.result(60)
        with pytest.raises(BrokenExecutor):
            executor.submit(sdk_calls.square, 1)
        executor.shutdown()
