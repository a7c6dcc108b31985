"""The contract of `concurrent.futures` on a cluster of real processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import itertools
import os
import threading
import time
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path

import numpy as np
import pytest

from quakegrid import ClusterExecutor, LocalCluster
from quakegrid.sdk.sender import BrokenClusterError
from tests.support.calls import sdk_calls


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


def until_running(futures: list[concurrent.futures.Future[str]]) -> None:
    """Wait until calls are sent."""
    while not all(future.running() for future in futures):
        time.sleep(0.001)


def test_call_runs_in_another_process(executor: ClusterExecutor) -> None:
    """A function goes out with its arguments and its result comes back."""
    result = executor.submit(sdk_calls.add, 20, second=22)
    pid = executor.submit(os.getpid)

    assert result.result() == 42
    assert result.done()
    assert not result.running()
    assert result.exception() is None
    assert pid.result() != os.getpid()


def test_many_tiny_calls_have_an_exact_sum(executor: ClusterExecutor) -> None:
    """Nothing is lost or doubled when calls travel in chunks."""
    results = executor.map(sdk_calls.square, range(2000))

    assert sum(results) == sum(number * number for number in range(2000))


@pytest.mark.parametrize("chunksize", [1, 7, 5000])
def test_map_keeps_order_and_takes_several_iterables(executor: ClusterExecutor, chunksize: int) -> None:
    """As the builtin `map`, which stops with the shortest."""
    results = executor.map(sdk_calls.add, range(100), itertools.count(1000), chunksize=chunksize)

    assert list(results) == [1000 + 2 * number for number in range(100)]


def test_map_reads_an_endless_input_as_results_are_taken(executor: ClusterExecutor) -> None:
    """With a `buffersize` only so many calls are ahead."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = executor.map(sdk_calls.square, numbers(), buffersize=5)

    assert list(itertools.islice(results, 10)) == [number * number for number in range(10)]
    assert len(taken) <= 16


def test_map_times_out(executor: ClusterExecutor, tmp_path: Path) -> None:
    """The time counts from the call of `map`."""
    results = executor.map(sdk_calls.wait_for, [str(tmp_path / "never")], timeout=0.05)

    with pytest.raises(TimeoutError):
        next(results)
    (tmp_path / "never").touch()


def test_starmap_unpacks_arguments(executor: ClusterExecutor) -> None:
    """One tuple a call."""
    assert list(executor.starmap(sdk_calls.add, [(1, 2), (3, 4)])) == [3, 7]


@pytest.mark.parametrize("arguments", [{"chunksize": 0}, {"buffersize": 0}])
def test_senseless_sizes_are_refused(executor: ClusterExecutor, arguments: dict[str, int]) -> None:
    """As the standard library does."""
    with pytest.raises(ValueError, match="must be"):
        executor.map(sdk_calls.square, [1], **arguments)  # type: ignore[arg-type]


def test_exception_keeps_its_class_and_the_remote_traceback(executor: ClusterExecutor) -> None:
    """What a task raises is raised here, with the place in the worker as its cause."""
    future = executor.submit(sdk_calls.fail, "lost")

    with pytest.raises(KeyError, match="lost") as caught:
        future.result()

    assert "raise KeyError(message)" in str(caught.value.__cause__)
    assert "chunks.py" not in str(caught.value.__cause__)
    assert future.exception() is caught.value


def test_wait_and_as_completed_work(executor: ClusterExecutor) -> None:
    """They use the insides of futures."""
    futures = [executor.submit(sdk_calls.square, number) for number in range(50)]

    completed = {future.result() for future in concurrent.futures.as_completed(futures)}
    done, not_done = concurrent.futures.wait(futures)

    assert completed == {number * number for number in range(50)}
    assert (len(done), len(not_done)) == (50, 0)
    assert concurrent.futures.Future.result(futures[3]) == 9


def test_wait_returns_at_the_first_result(executor: ClusterExecutor, tmp_path: Path) -> None:
    """A long task holds up nobody."""
    long = executor.submit(sdk_calls.wait_for, str(tmp_path / "go"))
    short = executor.submit(sdk_calls.square, 3)

    done, not_done = concurrent.futures.wait(
        [long, short], return_when=concurrent.futures.FIRST_COMPLETED, timeout=20
    )

    assert done == {short}
    assert not_done == {long}
    (tmp_path / "go").touch()
    assert long.result() == str(tmp_path / "go")


def test_callbacks_are_called_once_done(executor: ClusterExecutor) -> None:
    """Also one that is added after the end; an error in one stops nobody."""
    called: list[int] = []
    early = threading.Event()
    future = executor.submit(sdk_calls.square, 4)
    future.add_done_callback(lambda done: (called.append(done.result()), early.set()))
    future.result()
    assert early.wait(20)

    future.add_done_callback(lambda done: called.append(done.result() + 1))

    assert called == [16, 17]


def test_waiting_threads_each_get_their_result(executor: ClusterExecutor) -> None:
    """The futures of an executor share a lock."""
    futures = [executor.submit(sdk_calls.nap, number / 1000) for number in range(40)]
    with concurrent.futures.ThreadPoolExecutor(40) as threads:
        results = list(threads.map(concurrent.futures.Future.result, futures))

    assert results == [number / 1000 for number in range(40)]


def test_result_times_out_and_comes_later(executor: ClusterExecutor, tmp_path: Path) -> None:
    """A timeout changes nothing."""
    future = executor.submit(sdk_calls.wait_for, str(tmp_path / "go"))

    with pytest.raises(TimeoutError):
        future.result(0.01)
    (tmp_path / "go").touch()

    assert future.result(20)


def test_call_that_was_not_sent_can_be_cancelled(cluster: LocalCluster, tmp_path: Path) -> None:
    """Calls beyond what workers hold are still here."""
    with cluster.executor(max_workers=1) as executor:
        held = [executor.submit(sdk_calls.wait_for, str(tmp_path / "go")) for _ in range(3)]
        until_running(held)
        waiting = [executor.submit(sdk_calls.square, number) for number in range(10)]

        cancelled = [future.cancel() for future in waiting[::2]]
        (tmp_path / "go").touch()

        assert all(cancelled)
        assert [future.result() for future in waiting[1::2]] == [1, 9, 25, 49, 81]
        with pytest.raises(concurrent.futures.CancelledError):
            waiting[0].result()
        done, _ = concurrent.futures.wait(waiting, timeout=20)
        assert len(done) == 10
        assert not held[0].cancel()


def test_shutdown_finishes_or_cancels_what_waits(cluster: LocalCluster, tmp_path: Path) -> None:
    """`cancel_futures` drops what was not sent; nothing is accepted afterwards."""
    executor = cluster.executor(max_workers=1)
    held = executor.submit(sdk_calls.wait_for, str(tmp_path / "go"))
    until_running([held])
    waiting = [executor.submit(sdk_calls.wait_for, str(tmp_path / "go")) for _ in range(20)]

    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    executor.shutdown()

    assert held.result() == str(tmp_path / "go")
    assert waiting[-1].cancelled()
    assert all(future.done() for future in waiting)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(sdk_calls.square, 1)


@pytest.mark.alone  # select() takes no descriptor from 1024 on
def test_terminated_workers_end_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    """What runs, what was sent and what waits fails; nothing is accepted afterwards."""
    with cluster.executor(max_workers=1) as executor:
        pid = executor.submit(os.getpid).result()
        worker = os.pidfd_open(pid)
        futures = [executor.submit(sdk_calls.wait_for, str(tmp_path / "never")) for _ in range(20)]
        until_running(futures[:1])

        executor.terminate_workers()

        assert all(isinstance(future.exception(20), BrokenClusterError) for future in futures)
        assert connection.wait([worker], 20)
        with pytest.raises(RuntimeError, match="terminated"):
            executor.submit(sdk_calls.square, 1)
    os.close(worker)


def test_leaving_the_context_waits_for_results(cluster: LocalCluster) -> None:
    """As with every executor."""
    with cluster.executor() as executor:
        futures = [executor.submit(sdk_calls.nap, 0.02) for _ in range(10)]

    assert all(future.done() for future in futures)


def test_heaviest_call_starts_first(cluster: LocalCluster, tmp_path: Path) -> None:
    """Weights order what waits."""
    order: list[int] = []
    with cluster.executor(max_workers=1) as executor:
        held = [executor.submit(sdk_calls.wait_for, str(tmp_path / "go")) for _ in range(3)]
        until_running(held)
        for weight in (1, 3, 2):
            future = executor.submit_weighted(weight, sdk_calls.square, weight)
            future.add_done_callback(lambda done: order.append(done.result()))
        (tmp_path / "go").touch()

    assert order == [9, 4, 1]


def test_weight_must_be_positive(executor: ClusterExecutor) -> None:
    """A weight of nothing means nothing."""
    with pytest.raises(ValueError, match="weight"):
        executor.submit_weighted(0, sdk_calls.square, 1)


def test_max_workers_bounds_the_processes(cluster: LocalCluster) -> None:
    """One worker does it all, and none at all cannot be."""
    with cluster.executor(max_workers=1) as executor:
        pids = {future.result() for future in [executor.submit(os.getpid) for _ in range(200)]}
    with pytest.raises(ValueError, match="max_workers"):
        cluster.executor(max_workers=0)

    assert len(pids) == 1


def test_progress_ends_with_everything_done(cluster: LocalCluster) -> None:
    """Counts of done and submitted calls grow, and meet."""
    told: list[tuple[int, int]] = []
    with cluster.executor(on_progress=lambda done, total: told.append((done, total))) as executor:
        list(executor.map(sdk_calls.square, range(500)))

    assert told[-1] == (500, 500)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_lambdas_closures_and_partials_work(executor: ClusterExecutor) -> None:
    """What workers cannot import travels by value."""
    offset = 10

    def shifted(number: int) -> int:
        return number + offset

    assert executor.submit(lambda number: number + 1, 1).result() == 2
    assert list(executor.map(shifted, range(3))) == [10, 11, 12]
    assert executor.submit(functools.partial(sdk_calls.add, 5), 6).result() == 11
    assert executor.submit(lambda: lambda: "made there").result()() == "made there"
    assert executor.submit(max, 3, 4).result() == 4


def test_calls_share_no_state(executor: ClusterExecutor) -> None:
    """Each call has its own copy of its arguments and of what it is called on, however they travel."""
    items: list[int] = []
    counter = sdk_calls.Counter()
    executor.submit(sdk_calls.square, 1).result()

    appended = [executor.submit(sdk_calls.append, items) for _ in range(50)]
    counted = [executor.submit(counter.increment) for _ in range(50)]

    assert [future.result() for future in appended] == [[1]] * 50
    assert {future.result() for future in counted} == {1}


def test_results_can_be_changed_like_any_other(executor: ClusterExecutor) -> None:
    """Large arrays travel without copies, and arrive writable on both sides."""
    array = np.arange(100_000)

    result = executor.submit(sdk_calls.double_array, array).result()
    result += 1

    assert np.array_equal(result, 2 * np.arange(100_000) + 1)
    assert np.array_equal(array, np.arange(100_000))


def test_large_result_arrives_whole(executor: ClusterExecutor) -> None:
    """50 MB in one piece, next to small ones."""
    large = executor.submit(sdk_calls.zeros, 50_000_000)
    small = [executor.submit(sdk_calls.square, number) for number in range(10)]

    assert large.result() == bytes(50_000_000)
    assert [future.result() for future in small] == [number * number for number in range(10)]


def test_short_calls_behind_a_long_one_are_done_elsewhere(executor: ClusterExecutor, tmp_path: Path) -> None:
    """A chunk that turns out long gives back what it has not begun."""
    list(executor.map(sdk_calls.nap, [0.0] * 200))  # learns that naps are short
    futures = [executor.submit(sdk_calls.nap, 0.15 if number % 50 == 0 else 0.0) for number in range(400)]

    assert sum(future.result() for future in futures) == pytest.approx(8 * 0.15)


def test_generator_gives_the_list_of_what_it_yields(executor: ClusterExecutor) -> None:
    """However it is called, and as often as the result is asked for."""
    future = executor.submit(sdk_calls.count_to, 3)

    assert (future.result(), future.result()) == ([1, 2, 3], [1, 2, 3])
    assert list(executor.map(sdk_calls.count_to, range(3))) == [[], [1], [1, 2]]
    assert list(executor.map(sdk_calls.count_to, range(3), chunksize=2)) == [[], [1], [1, 2]]
    assert executor.submit(lambda: (number for number in "ab")).result() == ["a", "b"]
    arrays = executor.submit(lambda: (np.full(20_000, number) for number in range(3))).result()
    assert [int(array.sum()) for array in arrays] == [0, 20_000, 40_000]


def test_generator_that_fails_gives_nothing(executor: ClusterExecutor, tmp_path: Path) -> None:
    """What it yielded before is not delivered, neither from an attempt whose worker died."""
    failed = executor.submit(sdk_calls.yield_until, 3)
    died = executor.submit(sdk_calls.yield_and_die, str(tmp_path / "died"))

    with pytest.raises(KeyError, match="3") as caught:
        failed.result()
    assert "in yield_until" in str(caught.value.__cause__)
    assert "chunks.py" not in str(caught.value.__cause__)
    assert died.result() == ["first", "2"]


def test_asyncio_can_await_calls(executor: ClusterExecutor) -> None:
    """Through `run_in_executor`, or the futures themselves; errors arrive, too."""

    async def gather() -> list[int]:
        loop = asyncio.get_running_loop()
        with pytest.raises(KeyError, match="lost"):
            await loop.run_in_executor(executor, sdk_calls.fail, "lost")
        return await asyncio.gather(
            *(loop.run_in_executor(executor, sdk_calls.square, number) for number in range(20)),
            *(asyncio.wrap_future(executor.submit(sdk_calls.square, number)) for number in range(20)),
        )

    assert asyncio.run(gather()) == 2 * [number * number for number in range(20)]


def test_asyncio_gets_results_as_they_come(executor: ClusterExecutor, tmp_path: Path) -> None:
    """`asyncio.as_completed`; a slow call holds up nobody, and cancelling its future is felt by no other."""

    async def collect() -> set[int]:
        slow = asyncio.wrap_future(executor.submit(sdk_calls.wait_for, str(tmp_path / "go")))
        futures = [asyncio.wrap_future(executor.submit(sdk_calls.square, number)) for number in range(20)]
        found = {await future for future in asyncio.as_completed(futures, timeout=20)}
        assert not slow.done()
        slow.cancel()
        return found

    assert asyncio.run(collect()) == {number * number for number in range(20)}
    (tmp_path / "go").touch()


def test_asyncio_timeout_leaves_the_executor_as_it_was(executor: ClusterExecutor, tmp_path: Path) -> None:
    """`wait_for` gives up a call that runs; the next one is done."""

    async def give_up() -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                loop.run_in_executor(executor, sdk_calls.wait_for, str(tmp_path / "go")), 0.05
            )
        (tmp_path / "go").touch()
        return await loop.run_in_executor(executor, sdk_calls.square, 3)

    assert asyncio.run(give_up()) == 9


def test_two_executors_work_side_by_side(cluster: LocalCluster) -> None:
    """Each has its own session; neither waits for the other to close."""
    with cluster.executor() as first, cluster.executor() as second:
        assert first.submit(sdk_calls.square, 2).result() == 4
        assert second.submit(sdk_calls.square, 3).result() == 9
        assert first.submit(sdk_calls.square, 4).result() == 16
