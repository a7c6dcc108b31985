"""What one bad call does: a clear error for its own future, and nothing for any other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

from quakegrid import ClusterExecutor, LocalCluster, errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.machine import local_services
from quakegrid.session import options
from quakegrid.settings import config
from tests.support.calls import sdk_calls
from tests.support.nodes import wait_until


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


def test_coroutine_function(executor: ClusterExecutor) -> None:
    """Nobody awaits it on the worker."""
    future = among_others(executor, sdk_calls.coroutine)

    with pytest.raises(errors.PayloadError, match="result, a coroutine, cannot be pickled"):
        future.result()


@pytest.mark.parametrize("code", [0, 7])
def test_task_that_leaves_without_a_word(executor: ClusterExecutor, code: int) -> None:
    """`os._exit` ends the worker, also with a code that means success."""
    future = among_others(executor, os._exit, code)

    with pytest.raises(errors.TaskKilledError, match=f"attempt . on .*: exit code {code}"):
        future.result()


def test_recursion_without_end(executor: ClusterExecutor) -> None:
    """Python's own error comes back."""
    future = among_others(executor, sdk_calls.recurse)

    with pytest.raises(RecursionError) as caught:
        future.result()
    assert "in recurse" in str(caught.value.__cause__)


def test_recursion_beyond_the_stack(executor: ClusterExecutor) -> None:
    """It ends the worker, each time."""
    future = among_others(executor, sdk_calls.overflow_stack)

    with pytest.raises(errors.TaskKilledError, match="SIGSEGV"):
        future.result()


def test_values_too_deep_for_a_pickle(executor: ClusterExecutor) -> None:
    """As an argument and as a result."""
    argument = among_others(executor, len, sdk_calls.nest(100_000))
    result = among_others(executor, sdk_calls.nest, 100_000)

    with pytest.raises(errors.PayloadError, match="len or its arguments cannot be pickled: RecursionError"):
        argument.result()
    with pytest.raises(errors.PayloadError, match="result, a list, cannot be pickled: RecursionError"):
        result.result()


def test_task_that_prints_much(cluster: LocalCluster, executor: ClusterExecutor) -> None:
    """50 MB hold up nobody and fill no disk."""
    future = among_others(executor, sdk_calls.print_lines, 50_000)

    assert future.result() == 50_000
    assert local_services.log_path(cluster.settings, "agent").stat().st_size < 1 << 20


def test_more_memory_than_a_worker_may_use() -> None:
    """The call gets its error, whether its value or only the sending of it is too large; workers stay."""
    with LocalCluster(cores=1, worker_memory="300M") as cluster, cluster.executor() as executor:
        pid = executor.submit(os.getpid).result()
        too_large = among_others(executor, sdk_calls.zeros, 400_000_000)
        no_room = among_others(executor, sdk_calls.zeros, 200_000_000)

        with pytest.raises(MemoryError):
            too_large.result()
        with pytest.raises(errors.PayloadError, match="no room to send its 2000000"):
            no_room.result()
        assert executor.submit(os.getpid).result() == pid


CLIENT = """
import os, sys, time
from quakegrid import Cluster
executor = Cluster(sys.argv[1]).executor()
pid = executor.submit(os.getpid).result()
futures = [executor.submit(bytes, 1_000_000) for _ in range(50)] if sys.argv[2] == "results" else []
futures += [executor.submit(time.sleep, 1000) for _ in range(20)] if sys.argv[2] == "work" else []
print(pid, flush=True)
sys.stdin.readline()
print(sum(len(future.result()) for future in futures), flush=True)
"""


@contextlib.contextmanager
def client(cluster: LocalCluster, does: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another program on the cluster, and one of its workers."""
    config_path = cluster.settings.state_dir / config.CONFIG_NAME
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(cluster.settings.state_dir), does],
        env=os.environ | {"OQ_CONFIG_FILE": str(config_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout
        try:
            yield program, int(program.stdout.readline())
        finally:
            program.kill()


def test_client_that_vanishes(cluster: LocalCluster, executor: ClusterExecutor, tmp_path: Path) -> None:
    """Its workers end with what they run; nobody else is touched."""
    go = tmp_path / "go"
    mine = executor.submit_weighted(1.0, sdk_calls.wait_for, str(go))
    with BrokerClient(cluster.settings) as broker:  # which else may take the worker that has just begun it
        wait_until(lambda: any(found.running_count for found in broker.status().sessions))
    with client(cluster, "work") as (program, pid):
        worker = os.pidfd_open(pid)
        program.kill()
        ended = connection.wait([worker], 30)
        os.close(worker)

    assert ended
    assert not mine.done()
    go.touch()
    assert mine.result() == str(go)
    assert [future.result() for future in [executor.submit(sdk_calls.square, n) for n in range(9)]][8] == 64


def test_client_that_submits_and_never_reads(cluster: LocalCluster, executor: ClusterExecutor) -> None:
    """Stopped in the middle it holds up nobody; when it goes on, its results are all there."""
    executor.submit(sdk_calls.square, 1).result()
    with client(cluster, "results") as (program, _):
        program.send_signal(signal.SIGSTOP)
        numbers = [executor.submit(sdk_calls.square, number) for number in range(1000)]
        found = sum(future.result() for future in numbers)
        program.send_signal(signal.SIGCONT)
        assert program.stdin
        assert program.stdout
        program.stdin.write("\n")
        program.stdin.flush()
        total = int(program.stdout.readline())

    assert found == sum(number * number for number in range(1000))
    assert total == 50_000_000


def test_executor_breaks_when_the_broker_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no other comes, what waits fails with the reason, and nothing more is taken."""
    monkeypatch.setattr(options, "PATIENCE", options.Patience(broker_s=0.1))
    with LocalCluster(cores=1) as cluster:
        executor = cluster.executor()
        held = executor.submit(sdk_calls.wait_for, str(tmp_path / "never"))
        os.kill(local_services.running(cluster.settings)["broker"].pid, signal.SIGKILL)

        with pytest.raises(BrokenExecutor, match="session ended"):
            held.result(60)
        with pytest.raises(BrokenExecutor):
            executor.submit(sdk_calls.square, 1)
        executor.shutdown()
