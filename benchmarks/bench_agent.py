"""The agent's figures: how fast workers start and are replaced, and what they and the agent cost.

`python benchmarks/bench_agent.py [PART ...] [--kills N] [--preload none]`. `start`: 16 workers of a warm
template beside the plain engine's pool of 16. `cost`: the agent without workers, and with 64 idle ones.
`replace`: workers that are killed in the middle of their tasks. Prints one line a figure and ends with exit
code 1 when one is short of its target. Keep the machine quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks.support.figures import Figure
from benchmarks.support.records import report
from quakegrid import LocalCluster, testing
from quakegrid.clients import agent as agents
from quakegrid.clients.broker import BrokerClient
from quakegrid.machine import service_files
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.settings import config
from quakegrid.settings.config import Settings

REPOSITORY = Path(__file__).parents[1]
MB = 1_000_000
START_ROUNDS = 5

REPLACE_LIMIT_S = START_LIMIT_S = 0.5
CROWD, FULL_NODE = 16, 64
IDLE_S = 10.0
POLL_S = 0.01
WAIT_S = 60.0


def tell_and_wait(door: str, number: int) -> int:
    """Tell that we run, by which process and since when; end when we are allowed to."""
    start_s = time.monotonic()  # the same clock in all processes of a machine
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knock:
        own = f"{door}-{number}-{os.getpid()}"
        knock.bind(own)
        knock.sendto(f"{os.getpid()} {start_s}".encode(), door)
        knock.recv(1)
    Path(own).unlink()
    return number


def measure_replacements(kill_count: int, preload: str) -> list[float]:
    """Seconds from each kill until the task runs again, on a new worker."""
    durations_s = []
    with (
        contextlib.redirect_stderr(io.StringIO()),  # where each death is told
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(preload=preload) as cluster,
        cluster.executor() as executor,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        door = f"{folder}/door"
        listener.bind(door)
        listener.settimeout(WAIT_S)
        for number in range(kill_count):
            task = executor.submit_weighted(1.0, tell_and_wait, door, number)
            victim = int(listener.recv(100).split()[0])
            kill_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            message, sender = listener.recvfrom(100)
            durations_s.append(float(message.split()[1]) - kill_s)
            listener.sendto(b".", sender)
            if task.result(WAIT_S) != number:
                raise RuntimeError("a task has the result of another")
    return durations_s


def replace(kill_count: int, preload: str) -> list[Figure]:
    """Figures of workers that are killed."""
    durations_s = sorted(measure_replacements(kill_count, preload))
    p99_s = durations_s[math.ceil(0.99 * len(durations_s)) - 1]
    return [
        Figure("killed worker replaced, task runs again, p50", statistics.median(durations_s), "s"),
        Figure("killed worker replaced, task runs again, p99", p99_s, "s", at_most=REPLACE_LIMIT_S),
        Figure("killed worker replaced, task runs again, most", durations_s[-1], "s"),
    ]


# --- a crowd of workers


@contextlib.contextmanager
def roomy_cluster(core_count: int, preload: str) -> Iterator[tuple[Settings, psutil.Process]]:
    """A broker and an agent that believes in so many cores; the settings, and the agent's process."""
    with tempfile.TemporaryDirectory() as folder:
        state_dir = Path(folder) / "state"
        path = testing.write_cluster_config(state_dir, {"agent": {"preload": preload}})
        environ = testing.isolated_environ(Path(folder)) | {"OQ_CONFIG_FILE": str(path)}
        settings = config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(path)})
        commands = (
            ["quakegrid.services.broker", "--state-dir", str(state_dir)],
            ["benchmarks.support.roomy_agent", str(core_count), str(state_dir)],
        )
        services = [
            subprocess.Popen(
                [sys.executable, "-m", *command], env=environ, cwd=REPOSITORY, stderr=subprocess.DEVNULL
            )
            for command in commands
        ]
        try:
            wait_until(lambda: bool(service_files.read(settings, "broker")))
            with contextlib.closing(BrokerClient(settings)) as broker:
                broker.wait_for_nodes(WAIT_S)
            yield settings, psutil.Process(services[1].pid)
        finally:
            for service in services:
                service.terminate()
            for service in services:
                service.wait(WAIT_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask until it is so."""
    end_s = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > end_s:
            raise RuntimeError("the cluster did not become ready")
        time.sleep(POLL_S)


def crowd_start_s(settings: Settings, count: int) -> float:
    """Seconds from asking for workers until each of so many runs a task, all at once."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        door = f"{folder}/door"
        listener.bind(door)
        listener.settimeout(WAIT_S)
        begin_s = time.monotonic()
        with ClusterExecutor(settings) as executor:
            tasks = [executor.submit_weighted(1.0, tell_and_wait, door, number) for number in range(count)]
            met = [listener.recvfrom(100) for _ in tasks]
            for _, sender in met:
                listener.sendto(b".", sender)
            for task in tasks:
                task.result(WAIT_S)
    return max(float(message.split()[1]) for message, _ in met) - begin_s


def workers_of(settings: Settings, count: int) -> list[int]:
    """Process ids of the node's workers, when there are so many."""
    with contextlib.closing(agents.AgentClient(settings)) as agent:
        wait_until(lambda: sum(bool(worker.pid) for worker in agent.status().workers) >= count)
        return [worker.pid for worker in agent.status().workers]


def start(preload: str) -> list[Figure]:
    """Figures of a crowd that starts, beside the plain engine's."""
    command = [sys.executable, "-m", "benchmarks.support.plain_crowd", str(CROWD)]
    plain = json.loads(subprocess.check_output(command, cwd=REPOSITORY).splitlines()[-1])
    with roomy_cluster(CROWD, preload) as (settings, _agent):
        ready_s = [crowd_start_s(settings, CROWD) for _ in range(START_ROUNDS)]
        with ClusterExecutor(settings) as executor:
            executor.submit(int).result()
            pids = workers_of(settings, CROWD)
            ours = sum(psutil.Process(pid).memory_full_info().uss for pid in pids)
    median_s = statistics.median(ready_s)
    return [
        Figure(f"{CROWD} workers at work, warm template", median_s, "s", at_most=START_LIMIT_S),
        Figure(f"{CROWD} workers at work, plain engine's pool", plain["seconds"], "s"),
        Figure("the plain engine's by ours", plain["seconds"] / median_s, "x"),
        Figure(f"unshared memory of {CROWD} idle workers", ours / MB, "MB"),
        Figure(f"unshared memory of {CROWD} workers of the pool", plain["bytes"] / MB, "MB"),
        Figure("memory, ours by the pool's", ours / plain["bytes"], "x", at_most=0.25),
    ]


def share_of_a_core(process: psutil.Process) -> float:
    """CPU time that a process takes while nothing happens, in percent of the time."""
    before = process.cpu_times()
    time.sleep(IDLE_S)
    after = process.cpu_times()
    return 100 * (after.user + after.system - before.user - before.system) / IDLE_S


def cost(preload: str) -> list[Figure]:
    """Figures of the agent itself."""
    with roomy_cluster(FULL_NODE, preload) as (settings, agent):
        idle, memory = share_of_a_core(agent), agent.memory_info().rss
        with ClusterExecutor(settings) as executor:
            executor.submit(int).result()
            workers_of(settings, FULL_NODE)
            full, full_memory = share_of_a_core(agent), agent.memory_info().rss
    return [
        Figure("agent without workers, of a core", idle, "%", at_most=1),
        Figure("agent without workers, memory", memory / MB, "MB", at_most=100),
        Figure(f"agent with {FULL_NODE} workers, of a core", full, "%", at_most=5),
        Figure(f"agent with {FULL_NODE} workers, memory", full_memory / MB, "MB", at_most=100),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for."""
    parts: dict[str, Callable[[argparse.Namespace], list[Figure]]] = {
        "start": lambda args: start(args.preload),
        "cost": lambda args: cost(args.preload),
        "replace": lambda args: replace(args.kills, args.preload),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all, if none is named")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--preload", choices=["openquake", "none"], default="openquake")
    args = parser.parse_args(argv)
    return report("agent", [figure for name in args.parts or parts for figure in parts[name](args)])


if __name__ == "__main__":
    sys.exit(main())
