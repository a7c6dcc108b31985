"""Runs a task on every core of every node, through an ordinary session, and sums up by node."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from quakegrid.clients.broker import BrokerClient, NodeStatus
from quakegrid.doctor.checks.cluster_checks import SharedFolder, version_differences
from quakegrid.doctor.core_tasks import CoreAnswer, describe_core
from quakegrid.doctor.facts import Clock, Versions, clock_of
from quakegrid.doctor.installed import own_versions
from quakegrid.doctor.nonces import nonce_name
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.settings.config import Settings

# Long enough that the lane gives one task to each worker.
HOLD_S = 0.1
# The first round of a worker pays for its start and imports.
MIN_ROUNDS = 3
# Another session's tasks may hold cores for longer; then the answer says which cores were not reached.
PATIENCE_S = 10.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NodeCores:
    """The answers of tasks on the cores of one node; without an answer only names and counts.

    Args:
        host: as in `host_cores`; several agents on one machine count as one node.
        node: the machine's own name.
        core_count: cores that the broker may use there.
        reached_count: cores on which a task ran.
        round_trip_s: the shortest way of a task there and of its outcome back, without the task itself.
        clock_offset_s: how far the node's clock is ahead of ours.
        sees_shared_dir: None if no `shared_dir` is set or nothing answered.
        trouble: what is wrong, in words.
    """

    host: str
    node: str
    core_count: int
    reached_count: int = 0
    round_trip_s: float | None = None
    clock_offset_s: float | None = None
    sees_shared_dir: bool | None = None
    versions: Versions | None = None
    trouble: tuple[str, ...] = ()


@dataclass(slots=True)
class CoreAnswers:
    """The answers so far, with the clock of each; the workers by node."""

    received: list[tuple[CoreAnswer, Clock]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def worker_count(self) -> int:
        """How many workers answered so far."""
        return len({(found.node, found.pid) for found, _ in self.received})

    def reached_count(self) -> int:
        """On how many cores a task ran so far."""
        return sum(len(cores) for cores in self.cores().values())

    def cores(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """The cores of each worker, by node and process."""
        return {(found.node, found.pid): found.cores for found, _ in self.received}


def visit_cores(
    settings: Settings, shared: SharedFolder, on_progress: Progress
) -> tuple[list[NodeCores], list[str]]:
    """Run tasks until every core had one, or no further core answers for `PATIENCE_S`.

    Returns:
        What each node told, and the errors of tasks that failed.
    Raises:
        PeerUnreachableError: the broker does not answer, or no node is up.
    """
    on_progress("waiting for workers")
    answers = CoreAnswers()
    with ClusterExecutor(settings) as executor:
        with BrokerClient(settings) as broker:
            status = broker.status()
        core_count = sum(node.core_count for node in status.nodes)
        try:
            _run_rounds(executor, core_count, shared, answers, on_progress)
            failures = list(answers.failures)  # those of tasks that we end ourselves do not count
        finally:
            executor.terminate_workers()
    is_busy = len(status.sessions) > 1  # ours is one
    return sum_up(status.nodes, answers, shared, own_versions(), is_busy=is_busy), failures


def _run_rounds(
    executor: ClusterExecutor,
    core_count: int,
    shared: SharedFolder,
    answers: CoreAnswers,
    on_progress: Progress,
) -> None:
    name = nonce_name(shared.nonce) if shared.nonce else ""
    round_count, last_news_s = 0, time.monotonic()
    while answers.reached_count() < core_count or round_count < MIN_ROUNDS:
        before = answers.worker_count()
        on_progress(f"{answers.reached_count()} of {core_count} cores answered")
        left_s = last_news_s + PATIENCE_S - time.monotonic()
        if not _run_round(executor, core_count, (shared.path, name, HOLD_S), answers, left_s):
            return
        round_count += 1
        if answers.worker_count() > before:
            last_news_s = time.monotonic()


def _run_round(
    executor: ClusterExecutor,
    core_count: int,
    arguments: tuple[str, str, float],
    answers: CoreAnswers,
    timeout_s: float,
) -> bool:
    """One task for each core, each alone; whether all of them ended in time, and well."""
    futures: list[Future[CoreAnswer]] = []
    for _ in range(core_count):
        send_time = datetime.datetime.now(datetime.UTC)
        future = executor.submit_weighted(1.0, describe_core, *arguments)
        future.add_done_callback(_recorder(answers, send_time))
        futures.append(future)
    done, late = wait(futures, max(timeout_s, 0.0))
    return not late and all(future.exception() is None for future in done)


def _recorder(answers: CoreAnswers, send_time: datetime.datetime) -> Callable[[Future[CoreAnswer]], None]:
    def record(future: Future[CoreAnswer]) -> None:
        receive_time = datetime.datetime.now(datetime.UTC)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            answers.failures.append(str(error) or type(error).__name__)
            return
        found = future.result()
        clock = clock_of(send_time, found.receive_time, found.send_time, receive_time)
        answers.received.append((found, clock))

    return record


def sum_up(
    nodes: Sequence[NodeStatus],
    answers: CoreAnswers,
    shared: SharedFolder,
    ours: Versions,
    *,
    is_busy: bool = False,
) -> list[NodeCores]:
    """The answers of each node of the fleet, in the fleet's order.

    Args:
        nodes: of the fleet.
        answers: of its workers.
        shared: the shared directory with our nonce.
        ours: versions here.
        is_busy: whether other sessions have cores, too.
    """
    by_name: dict[str, list[NodeStatus]] = {}
    for status in nodes:
        by_name.setdefault(status.node or status.host, []).append(status)
    return [
        _node_cores(name, group, answers, shared, ours, is_busy=is_busy) for name, group in by_name.items()
    ]


def _node_cores(
    name: str,
    group: Sequence[NodeStatus],
    answers: CoreAnswers,
    shared: SharedFolder,
    ours: Versions,
    *,
    is_busy: bool,
) -> NodeCores:
    core_count = sum(status.core_count for status in group)
    host = ", ".join(status.host for status in group)
    reached_count = sum(len(cores) for (node, _), cores in answers.cores().items() if node == name)
    trouble = [status.state for status in group if not status.is_up]
    if reached_count < core_count:
        why = ": other sessions have cores, try again later" if is_busy else ""
        trouble.append(f"no task ran on {core_count - reached_count} of {core_count} cores{why}")
    received = [(found, clock) for found, clock in answers.received if found.node == name]
    if not received:
        return NodeCores(host, name, core_count, trouble=tuple(trouble))
    clock = min((clock for _, clock in received), key=lambda clock: clock.round_trip_s)
    found = received[-1][0]
    sees_shared_dir = found.nonce == shared.nonce if shared.nonce else None
    trouble += version_differences(ours, found.versions)
    return NodeCores(
        host,
        name,
        core_count,
        reached_count=reached_count,
        round_trip_s=clock.round_trip_s,
        clock_offset_s=clock.offset_s,
        sees_shared_dir=sees_shared_dir,
        versions=found.versions,
        trouble=tuple(trouble),
    )
