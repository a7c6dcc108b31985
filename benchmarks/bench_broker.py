"""Tasks through the lanes, against the standard library's pools and a bare ZeroMQ echo.

All in one run on this machine, CURVE on, two workers each. Figures with a target make the exit code 1
when they are short of it; neighbours that are not installed are left out.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.figures import Figure
from benchmarks.support.lane import limits
from benchmarks.support.neighbours import ARGUMENT_BYTES, ARGUMENT_COUNT, MEASURES
from benchmarks.support.records import report
from benchmarks.support.tiny_tasks import empty, first, large
from benchmarks.support.two_jobs import tiny_share
from benchmarks.support.without_end import figures as figures_without_end
from quakegrid import ClusterExecutor, LocalCluster, testing
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys

WORKERS = 2
ROUNDS = 3
FEW, MANY = 10_000, 1_000_000
FEW_PER_MANY = 15
ROUND_TRIPS = 300
LARGE_BYTES = 16 << 20
LARGE_COUNT = 12
MICRO = 1e6
SUPPORT = Path(__file__).parent / "support"
NEIGHBOUR_PYTHON = SUPPORT.parents[1] / ".venv/neighbours/bin/python"
NEIGHBOUR_TIMEOUT_S = 120.0
AT_LEAST = {"zmq Starmap": 100.0, "Dask": 20.0, "Ray": 20.0}
ARGUMENT_AT_LEAST = {"Ray": 1.0}


def say(text: str) -> None:
    """What is being measured; the figures go to stdout."""
    print(text, file=sys.stderr, flush=True)


def per_task_us(submit: Callable[[], Any], take: Callable[[Any], Any], count: int) -> float:
    """Submit `count` empty tasks, then take all results; time a task."""
    start_s = time.perf_counter()
    futures = [submit() for _ in range(count)]
    for future in futures:
        take(future)
    return (time.perf_counter() - start_s) / count * MICRO


def pool_us() -> float:
    """`multiprocessing.Pool.apply_async`."""
    with multiprocessing.Pool(WORKERS) as pool:
        pool.apply(empty)
        return best(lambda: per_task_us(lambda: pool.apply_async(empty), lambda result: result.get(), FEW))


def executor_us(executor: Any, count: int, rounds: int = ROUNDS) -> float:
    """Any `concurrent.futures` executor."""
    executor.submit(empty).result()
    return best(
        lambda: per_task_us(lambda: executor.submit(empty), lambda future: future.result(), count), rounds
    )


def growth(executor: Any) -> float:
    """Cost a task of many tasks by that of few; in turns, as the machine's pace changes with its load."""

    def ratio() -> float:
        few = [executor_us(executor, FEW, 1) for _ in range(FEW_PER_MANY)]
        many = executor_us(executor, MANY, 1)
        few += [executor_us(executor, FEW, 1) for _ in range(FEW_PER_MANY)]
        return many / statistics.median(few)

    return statistics.median(ratio() for _ in range(ROUNDS))


def best(measure: Callable[[], float], rounds: int = ROUNDS) -> float:
    """The least of some rounds, the first of which warms up caches and estimates."""
    return min(measure() for _ in range(rounds))


def neighbours() -> Iterator[tuple[str, float]]:
    """Others, as far as they are installed: name, time an empty task."""
    with ProcessPoolExecutor(WORKERS) as executor:
        yield "ProcessPoolExecutor", executor_us(executor, FEW // 2, 2)
    yield from run_apart("zmq Starmap", [sys.executable, SUPPORT / "starmap_neighbour.py"])
    yield from installed("empty")


def installed(measure: str) -> Iterator[tuple[str, float]]:
    """One measure of the neighbours that are installed: name, time a task."""
    if not NEIGHBOUR_PYTHON.exists():
        say("left out: others than the standard library's; `make bench-neighbours` installs them")
        return
    for name in MEASURES[measure]:
        yield from run_apart(name, [NEIGHBOUR_PYTHON, SUPPORT / "neighbours.py", measure, name])


def run_apart(name: str, command: list[Path | str]) -> Iterator[tuple[str, float]]:
    """Let a script measure a neighbour: name, time a task; nothing, with a word about it, if it fails."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=NEIGHBOUR_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            out, err = "", f"not done in {NEIGHBOUR_TIMEOUT_S:g} s"
        finally:
            with suppress(ProcessLookupError):  # what it started, too
                os.killpg(process.pid, signal.SIGKILL)
    try:
        yield name, json.loads(out.splitlines()[-1])["us"]
    except (IndexError, ValueError):
        say(f"left out: {name}: {(err.strip().splitlines() or ['it said nothing'])[-1]}")


def argument_us(executor: Any, rounds: int = ROUNDS) -> float:
    """One large array to many tasks, a fresh one each round; time a task."""
    executor.submit(first, np.zeros(1)).result()
    arrays = [np.full(ARGUMENT_BYTES // 8, float(seed)) for seed in range(rounds)]

    def run() -> float:
        array = arrays.pop()
        start_s = time.perf_counter()
        assert list(executor.map(first, [array] * ARGUMENT_COUNT)) == [array[0]] * ARGUMENT_COUNT
        return (time.perf_counter() - start_s) / ARGUMENT_COUNT * MICRO

    return best(run, rounds)


# --- the bare echo: client, router and worker with nothing but sockets between them


def echo_router(endpoint: str, authkey: str) -> None:
    """Pass messages between one client and one worker."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap, router = lane_sockets.open_zap(context), lane_sockets.bind_router(context, endpoint, authkey)
    public = lane_keys.curve_keys(authkey).door.client_public
    poller = zmq.Poller()
    poller.register(zap, zmq.POLLIN)
    poller.register(router, zmq.POLLIN)
    others, here, is_open = {b"client": b"worker", b"worker": b"client"}, set(), False
    while True:
        ready = dict(poller.poll())
        if zap in ready:
            lane_sockets.answer_zap(zap, public)
        if router in ready:
            peer, *frames = router.recv_multipart(copy=False)
            if not is_open:  # the answers to our probes
                here.add(peer.bytes)
                is_open = len(here) == len(others)
                for name in here if is_open else ():
                    router.send_multipart([name, b"hello"])
                continue
            router.send_multipart([others[peer.bytes], *frames], copy=False)


def echo_worker(endpoint: str, authkey: str) -> None:
    """Answer a number with as many bytes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    door = lane_keys.curve_keys(authkey).door
    dealer = lane_sockets.connect_dealer(context, endpoint, door, b"worker")
    answer_probe(dealer)
    dealer.recv()
    while True:
        size = int(dealer.recv())
        dealer.send(b"x" * size if size else b"", copy=False)


@contextmanager
def echo(port: int) -> Iterator[zmq.Socket[bytes]]:
    """The client's socket of a running echo."""
    endpoint, authkey = f"tcp://127.0.0.1:{port}", secrets.token_urlsafe(32)
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=target, args=(endpoint, authkey)) for target in (echo_router, echo_worker)
    ]
    for process in processes:
        process.start()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    door = lane_keys.curve_keys(authkey).door
    dealer = lane_sockets.connect_dealer(context, endpoint, door, b"client")
    try:
        answer_probe(dealer)
        dealer.recv()
        yield dealer
    finally:
        for process in processes:
            process.kill()
            process.join()
        context.destroy(linger=0)


def answer_probe(dealer: zmq.Socket[bytes]) -> None:
    """Wait for the connection, and say who we are."""
    assert dealer.recv() == lane_sockets.PROBE
    dealer.send(lane_sockets.PROBE)


def echo_round_trip_us(dealer: zmq.Socket[bytes]) -> float:
    """Median round trip of an empty message."""

    def call() -> None:
        dealer.send(b"0")
        dealer.recv()

    return median_us(call)


def median_us(call: Callable[[], Any]) -> float:
    """Median time of a call."""
    times = []
    for _ in range(ROUND_TRIPS):
        start_s = time.perf_counter()
        call()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times) * MICRO


def round_trip_us() -> float:
    """Median round trip of an empty task, on a cluster of its own: as with the echo, cores differ."""
    with LocalCluster(WORKERS) as cluster, cluster.executor() as executor:
        executor_us(executor, FEW // 10, 1)
        return median_us(lambda: executor.submit(empty).result())


def echo_mib_s(dealer: zmq.Socket[bytes]) -> float:
    """Bandwidth of large answers, all asked for at once."""

    def run() -> float:
        start_s = time.perf_counter()
        for _ in range(LARGE_COUNT):
            dealer.send(b"%d" % LARGE_BYTES)
        for _ in range(LARGE_COUNT):
            assert len(dealer.recv(copy=False).buffer) == LARGE_BYTES
        return LARGE_COUNT * LARGE_BYTES / 2**20 / (time.perf_counter() - start_s)

    return max(run() for _ in range(ROUNDS))


def executor_mib_s(executor: ClusterExecutor) -> float:
    """Bandwidth of large results."""

    def run() -> float:
        start_s = time.perf_counter()
        futures = [executor.submit(large, LARGE_BYTES) for _ in range(LARGE_COUNT)]
        for future in futures:
            assert len(future.result()) == LARGE_BYTES
        return LARGE_COUNT * LARGE_BYTES / 2**20 / (time.perf_counter() - start_s)

    return max(run() for _ in range(ROUNDS))


def main() -> int:
    """Measure everything; the exit code is 1 when a figure is short of its target."""
    say("the standard library's pools ...")  # they fork: before this process has threads
    pool = pool_us()
    others, arguments = list(neighbours()), list(installed("argument"))
    with ProcessPoolExecutor(WORKERS) as processes:
        arguments.append(("ProcessPoolExecutor", argument_us(processes, 1)))
    say("the bare echo ...")
    echo_us, echo_bandwidth = float("inf"), 0.0
    for _ in range(ROUNDS):  # afresh: it depends on the cores where the kernel puts its processes
        with echo(testing.free_ports(1)[0]) as dealer:
            echo_us = min(echo_us, echo_round_trip_us(dealer))
            echo_bandwidth = max(echo_bandwidth, echo_mib_s(dealer))
    say("the lanes ...")
    with LocalCluster(WORKERS) as cluster, cluster.executor() as executor:
        few, many_by_few = executor_us(executor, FEW), growth(executor)
    round_trip = best(round_trip_us)
    with LocalCluster(WORKERS) as cluster, cluster.executor(max_workers=1) as executor:
        bandwidth = executor_mib_s(executor)
    with LocalCluster(WORKERS) as cluster, cluster.executor() as executor:
        argument = argument_us(executor)
    say("one lane under load ...")
    one_lane = list(limits.figures())
    say("two jobs at once ...")
    share = tiny_share(WORKERS)
    say("programs that submit without end ...")
    without_end = figures_without_end()
    figures = [
        Figure("empty task, QuakeGrid", few, "us"),
        Figure("empty task, Pool.apply_async", pool, "us"),
        *(Figure(f"empty task, {name}", value, "us") for name, value in others),
        Figure("faster than Pool.apply_async", pool / few, "x", at_least=2),
        *(
            Figure(f"faster than {name}", value / few, "x", at_least=AT_LEAST.get(name))
            for name, value in others
        ),
        Figure(f"cost a task, {MANY} by {FEW} tasks", many_by_few, "x", at_most=1.1),
        Figure("round trip, bare echo", echo_us, "us"),
        Figure("round trip, QuakeGrid", round_trip, "us"),
        Figure("round trip by bare echo's", round_trip / echo_us, "x", at_most=2.5),
        Figure("16 MiB results, bare echo", echo_bandwidth, "MiB/s"),
        Figure("16 MiB results, QuakeGrid", bandwidth, "MiB/s"),
        Figure("bandwidth by bare echo's", bandwidth / echo_bandwidth, "x", at_least=0.7),
        Figure("16 MiB argument, QuakeGrid", argument, "us"),
        *(Figure(f"16 MiB argument, {name}", value, "us") for name, value in arguments),
        *(
            Figure(f"16 MiB argument, faster than {name}", value / argument, "x", at_least=at_least)
            for name, value in arguments
            for at_least in (ARGUMENT_AT_LEAST.get(name),)
        ),
        *one_lane,
        Figure("two jobs, core time of the tiny one's", share.cores, "", at_least=0.475, at_most=0.525),
        Figure("two jobs, task time of the tiny one's", share.tasks, ""),
        *without_end,
    ]
    return report("broker", figures)


if __name__ == "__main__":
    sys.exit(main())
