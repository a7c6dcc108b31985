"""Workers of people on a node of tests, ordered as the broker orders them, that run code of a test.

A worker runs its setup before its first task, and these workers never get a task. What the code leaves in
`answer` comes back.
"""

from __future__ import annotations

import functools
import itertools
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.clients import agent as agents
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.services.broker.lanes import door_keys
from quakegrid.settings import lane_secrets
from quakegrid.transport import grpc_channels
from tests.people.accounts import Account
from tests.people.cluster import PeopleCluster
from tests.support.nodes import wait_until

ENDPOINT = "tcp://127.0.0.1:1"
TIMEOUT_S = 60.0
_PROGRAM = """
import json, os, traceback
answer = {{}}
try:
    exec({code!r}, {{"answer": answer, "os": os}})
except BaseException:
    answer["failure"] = traceback.format_exc()
with open({path!r} + ".new", "w") as file:
    json.dump(answer, file)
os.rename({path!r} + ".new", {path!r})
"""


@dataclass(frozen=True, slots=True)
class PersonWorker:
    """A worker that runs: its number on its machine, its session, and what its code answered."""

    worker_id: str
    session_id: int
    pid: int
    answer: dict[str, Any]


class WorkerOrders:
    """Orders workers from an agent."""

    def __init__(self, cluster: PeopleCluster) -> None:
        self.cluster = cluster
        settings = cluster.settings
        self._lane_secret = lane_secrets.of_broker(settings.state_dir)
        self._channel = grpc_channels.open_channel(f"127.0.0.1:{settings.agent_port}", settings.authkey)
        self._orders = orders_pb2_grpc.OrdersStub(self._channel)
        self._nodes = nodes_pb2_grpc.NodesStub(self._channel)
        self._numbers = itertools.count(1)
        wait_until(lambda: agents.template_state(self.status()).is_ready)

    def status(self) -> nodes_pb2.AgentStatus:
        """What the agent tells."""
        return self._nodes.GetStatus(nodes_pb2.GetAgentStatusRequest(), timeout=TIMEOUT_S).status

    def start(self, who: Account | str, code: str = "", session_id: int = 0, **fields: Any) -> PersonWorker:
        """Start a worker and wait for the answer of its code.

        Args:
            who: an account, or the name of a person whose number nobody knows.
            code: what it runs.
            session_id: 0 for one of its own.
            fields: of the request, in place of these.
        """
        number = next(self._numbers)
        session_id = session_id or number
        path = Path(f"/tmp/answer-{number}")
        program = _PROGRAM.format(code=code, path=str(path))
        person = {"person": who} if isinstance(who, str) else {"person": who.name, "account_id": who.uid}
        request = orders_pb2.StartWorkersRequest(
            workers=[orders_pb2.WorkerRef(session_id=session_id, worker_id=f"w-{number}", token="t")],
            lane_endpoint=ENDPOINT,
            worker_setup=pickle.dumps(functools.partial(exec, program, {})),
            lane_keys=door_keys.of_broker(self._lane_secret),
            **person | fields,
        )
        started = self._orders.StartWorkers(request, timeout=TIMEOUT_S).started
        assert [each.worker_id for each in started] == [f"w-{number}"], "no core is free"
        found = self.cluster.machine.path(path)
        try:
            wait_until(found.exists)
        except AssertionError:
            raise AssertionError(f"no answer: {self.status()}\n{self.cluster.log('agent')}") from None
        answer = json.loads(found.read_text(encoding="utf-8"))
        assert "failure" not in answer, answer["failure"]
        pid = next(each.pid for each in self.status().workers if each.worker_id == f"w-{number}")
        return PersonWorker(f"w-{number}", session_id, pid, answer)

    def stop(self, worker: PersonWorker, *, is_forced: bool = False) -> None:
        """Stop a worker, and wait until it is gone."""
        request = orders_pb2.StopWorkersRequest(session_id=worker.session_id, force=is_forced)
        self._orders.StopWorkers(request, timeout=TIMEOUT_S)
        wait_until(lambda: worker.worker_id not in {each.worker_id for each in self.status().workers})

    @contextmanager
    def worker(self, who: Account | str, code: str = "", **fields: Any) -> Iterator[PersonWorker]:
        """A worker that runs meanwhile."""
        worker = self.start(who, code, **fields)
        try:
            yield worker
        finally:
            self.stop(worker)

    def run(self, who: Account | str, code: str, **fields: Any) -> dict[str, Any]:
        """Run code in a worker; what it answers."""
        with self.worker(who, code, **fields) as worker:
            return worker.answer

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
