"""The control behind `oq workers`: all nodes of the cluster, in upstream's words.

A job controls its own workers by another class (`job_workers.JobWorkerMaster`). Upstream has one class for
both, so there a job that ends stops the workers of all others. Lines that upstream prints of its ssh commands
are not printed, since there are none.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from concurrent.futures import Future

from quakegrid.clients.broker import NodeStatus
from quakegrid.clients.fleet_control import WAIT_S, FleetControl, NodeAnswer
from quakegrid.sdk.executor import ClusterExecutor
from quakegrid.settings.config import Settings

DEBUG_TASKS_PER_NODE = 2

Triples = list[tuple[str, int, int]]


class ClusterMaster:
    """Upstream's WorkerMaster for the whole cluster; each method returns what upstream's prints.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self) -> str:
        """Let every node serve."""
        with FleetControl(self._settings) as control:
            answers = _reached(control.start())
        for answer in answers:
            if answer.was_serving:
                print(f"{self._address(answer.host)} already running")
        return f"starting {[answer.host for answer in answers if not answer.was_serving]}"

    def stop(self) -> str:
        """Let no node serve; workers end after their tasks."""
        with FleetControl(self._settings) as control:
            answers = [answer for answer in _reached(control.stop(is_forced=False)) if answer.was_serving]
            control.wait_until_drained(answers, lambda _count: None)
        for answer in answers:
            print(f"WorkerPool on {answer.node} stopped")
        return f"stopped {[answer.host for answer in answers]}"

    def kill(self) -> str:
        """Let no node serve, and kill the workers."""
        with FleetControl(self._settings) as control:
            answers = _reached(control.stop(is_forced=True))
            control.wait_until_drained(answers, lambda _count: None)
        return f"killed {[answer.host for answer in answers]}"

    def restart(self) -> str:
        """Fresh workers and templates everywhere."""
        with FleetControl(self._settings) as control:
            control.wait_until_drained(_reached(control.restart(is_forced=False)), lambda _count: None)
        return "restarted"

    def status(self) -> Triples:
        """Triples (host, running, total) of the nodes that serve."""
        with FleetControl(self._settings) as control:
            return _triples(control.status().nodes)

    def wait(self, seconds: float = WAIT_S) -> Triples:
        """Wait until all nodes serve.

        Raises:
            PeerUnreachableError: they do not in time.
        """
        with FleetControl(self._settings) as control:
            return _triples(control.wait_until_up(seconds))

    def debug(self) -> str:
        """Run some tasks; the other jobs' nodes are not stopped afterwards."""
        with FleetControl(self._settings) as control:
            nodes = [node for node in control.wait_until_up(any_node=True) if node.is_up]
        with ClusterExecutor(self._settings, shows_output=False) as executor:
            futures: list[Future[int]] = []
            for node in nodes:
                print(f"Sending to tcp://{self._address(node.host)}")
                for _ in range(DEBUG_TASKS_PER_NODE):
                    number = len(futures)
                    futures.append(executor.submit(_debug_task, f"executing task #{number}", number))
            results = [future.result() for future in futures]
        print(f"{results=}")
        return "debugged"

    def _address(self, host: str) -> str:
        return host if ":" in host else f"{host}:{self._settings.agent_port}"


def _reached(answers: Sequence[NodeAnswer]) -> list[NodeAnswer]:
    """Those that heard the order; upstream passes over the others without a word."""
    for answer in answers:
        if not answer.is_reached:
            print(f"{answer.host}: its agent does not answer", file=sys.stderr)
    return [answer for answer in answers if answer.is_reached]


def _triples(nodes: Sequence[NodeStatus]) -> Triples:
    return [(node.host, node.running_count, node.core_count) for node in nodes if node.is_up]


def _debug_task(message: str, number: int) -> int:
    print(socket.gethostname(), message)
    return number
