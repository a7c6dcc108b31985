"""Stands in for upstream's WorkerMaster: the cluster's nodes, through the broker.

Workers belong to a session and end with it, so start and stop touch nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient, NodeStatus
from quakegrid.session.options import OPEN_PATIENCE_S
from quakegrid.session.stream import waiting_words
from quakegrid.settings.config import Settings

T = TypeVar("T")

WAIT_S = 120.0
RETRY_S = 0.5


class JobWorkerMaster:
    """Upstream's control of workers.

    Args:
        settings: of the cluster.
        end_session: ends the driver's own session.
        warn: told when the broker is waited for.
    """

    def __init__(
        self, settings: Settings, end_session: Callable[[], None], warn: Callable[[str], None]
    ) -> None:
        self._settings, self._end_session, self._warn = settings, end_session, warn

    def start(self) -> str:
        """Say which nodes are up; workers start when a job needs them."""
        for host, _running, _total in self.status():
            print(f"{host}:{self._settings.agent_port} already running")
        return "starting []"

    def stop(self) -> str:
        """End the driver's session, and so its workers."""
        self._end_session()
        return "stopped the workers of this job"

    def kill(self) -> str:
        """The same as stop: the session's workers are killed if they do not end."""
        return self.stop()

    def restart(self) -> str:
        """Nothing to do: every job gets fresh workers."""
        return "restarted"

    def status(self) -> list[tuple[str, int, int]]:
        """Triples (host, running, total) of the nodes that are up."""
        return self._ask(lambda broker: _triples(broker.status().nodes))

    def wait(self, seconds: float = WAIT_S) -> list[tuple[str, int, int]]:
        """Wait until a node is up.

        Raises:
            PeerUnreachableError: none came up in time.
        """
        return self._ask(lambda broker: _triples(broker.wait_for_nodes(seconds)))

    def _ask(self, question: Callable[[BrokerClient], T]) -> T:
        """Ask the broker, which may be away for a moment."""
        end_s = time.monotonic() + OPEN_PATIENCE_S
        is_told = False
        while True:
            try:
                with BrokerClient(self._settings) as broker:
                    return question(broker)
            except errors.PeerUnreachableError:
                if time.monotonic() > end_s:
                    raise
                if not is_told:
                    self._warn(waiting_words(self._settings))
                    is_told = True
                time.sleep(RETRY_S)


def _triples(nodes: tuple[NodeStatus, ...]) -> list[tuple[str, int, int]]:
    return [(node.host, node.running_count, node.core_count) for node in nodes if node.is_up]
