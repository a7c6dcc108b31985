"""The broker's edge to its agents: real links and orders, and agents in memory that speak the real codec."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from quakegrid import testing
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.drivers import ends
from quakegrid.services.broker.nodes import link
from quakegrid.settings import config, lane_secrets
from quakegrid.transport import error_details
from quakegrid.transport.keys import lane_keys
from tests.support.broker_fakes import NODE, AgentStage, told, until
from tests.support.fake_agent import FakeAgent

OTHER = "node2:1909"
Scene = Callable[[AgentStage, FakeAgent, FakeAgent], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs a scene with a broker, the agent of its node, and one that may join."""
    for name in ("FIRST_RETRY_S", "LAST_RETRY_S"):
        monkeypatch.setattr(link, name, 1e-6)
    monkeypatch.setattr(ends, "ABORT_GRACE_S", 0.01)
    path = testing.write_cluster_config(tmp_path / "state", {"distribution": {"serialize_jobs": 1}})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})

    async def run(scene: Scene) -> None:
        agent, other = FakeAgent("n1"), FakeAgent("n2")
        address = f"{NODE}:{settings.agent_port}"
        stage = AgentStage(settings, {address: agent, OTHER: other})
        try:
            await scene(stage, agent, other)
        finally:
            await stage.broker.stop()

    return lambda scene: asyncio.run(run(scene))


def test_workers_are_ordered_with_all_that_they_need(play: Play) -> None:
    """Their lane, what they run at first, the template's fingerprint, and a token each."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        session = stage.open_session(7, worker_setup=b"setup", fingerprint={"clock": "as the master's"})
        await until(lambda: len(agent.workers) == 2, "two workers run")

        (request,) = agent.starts
        lane = next(each for each in stage.lanes if each.port)
        key = lane_keys.token_key(lane_secrets.of_broker(stage.settings.state_dir))
        name = next(iter(agent.workers))
        assert set(agent.workers.values()) == {session.session_id}
        assert request.lane_endpoint.endswith(f":{lane.port}")
        assert request.worker_setup == b"setup"
        assert dict(request.fingerprint) == {"clock": "as the master's"}
        assert agent.tokens[name] == lane_keys.worker_token(key, session.session_id, name)

    play(scene)


def test_worker_that_dies_is_told_to_its_lane_and_replaced(play: Play) -> None:
    """With the node's name and the peak memory, which the agent measured."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        stage.open_session(7)
        await until(lambda: len(agent.workers) == 2, "two workers run")
        before = set(agent.workers)
        name = min(before)

        agent.end_worker(name, "killed by SIGKILL", last_output=["help"], peak_memory_bytes=3 << 20)
        await until(lambda: len(agent.workers) == 2, "another worker runs")

        (end,) = stage.lane_told("worker_lost")
        assert (end.worker_id, end.node, end.reason) == (name, "n1", "killed by SIGKILL")
        assert (end.peak_memory_bytes, list(end.last_output)) == (3 << 20, ["help"])
        assert name not in agent.workers
        assert stage.broker.status().nodes[0].worker_count == 2

    play(scene)


def test_node_that_refuses_workers_is_asked_again_when_it_reports(play: Play) -> None:
    """A refusal is a normal answer."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        agent.is_full = True
        stage.open_session(7)
        await until(lambda: len(agent.starts) == 1, "workers were ordered")
        await until(lambda: stage.broker.status().nodes[0].worker_count == 0, "they were refused")
        asked_count = len(agent.starts)

        agent.is_full = False
        agent.report()
        await until(lambda: len(agent.workers) == 2, "two workers run")

        assert asked_count == 1

    play(scene)


def test_workers_go_on_while_the_link_is_cut_and_those_that_ended_are_lost(play: Play) -> None:
    """What ended meanwhile was not told; the first report after it says what is there."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        stage.open_session(7)
        await until(lambda: len(agent.workers) == 2, "two workers run")
        await until(lambda: worker_starts(stage) == 2, "the broker knows it")
        staying, ending = sorted(agent.workers)

        agent.cut()
        await until(lambda: not stage.broker.nodes.links[NODE].is_reached, "the link noticed")
        agent.end_worker(ending, "exit code 1")
        agent.mend()
        await until(lambda: bool(stage.lane_told("worker_lost")), "the lane was told")
        await until(lambda: len(agent.workers) == 2, "another worker runs")

        (end,) = stage.lane_told("worker_lost")
        assert end.worker_id == ending
        assert end.is_blameless
        assert "it ended while its agent was out of reach" in end.reason
        assert staying in agent.workers

    play(scene)


def test_worker_whose_start_was_not_answered_and_that_ended_unseen_is_lost(play: Play) -> None:
    """It may have joined its lane by then, and hold a task."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        method = "/quakegrid.internal.v1.Orders/StartWorkers"
        handler = agent._handlers[method]

        async def start_and_be_cut(request: orders_pb2.StartWorkersRequest, context: object) -> object:
            answer = await handler.unary_unary(request, context)
            agent.cut()
            return answer

        agent._handlers[method] = handler._replace(unary_unary=start_and_be_cut)
        stage.open_session(7)
        await until(lambda: agent.is_cut, "its answer is lost")
        agent._handlers[method] = handler
        staying, ending = sorted(agent.workers)
        await until(lambda: not stage.broker.nodes.links[NODE].is_reached, "the link noticed")
        agent.end_worker(ending, "exit code 1")
        agent.mend()
        await until(lambda: len(agent.workers) == 2, "another worker runs")

        assert [end.worker_id for end in stage.lane_told("worker_lost")] == [ending]
        assert staying in agent.workers

    play(scene)


def test_agent_that_says_why_it_starts_nothing_is_not_asked_what_it_has(play: Play) -> None:
    """Its refusal is certain: the connection stays, and the fleet counts no worker."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        method = "/quakegrid.internal.v1.Orders/StartWorkers"
        nothing, code = grpc.aio.Metadata(), grpc.StatusCode.UNAVAILABLE
        told = grpc.aio.Metadata(*error_details.metadata("QUAKEGRID", code, "the template loads"))

        async def refuse(_request: object, _context: object) -> object:
            raise grpc.aio.AioRpcError(code, nothing, told, "the template loads")

        agent._handlers[method] = agent._handlers[method]._replace(unary_unary=refuse)
        session = stage.open_session(7)
        await until(lambda: stage.broker._loop.fleet.nodes[NODE].is_refusing, "it refused")

        assert stage.broker.nodes.links[NODE].is_reached
        assert not stage.broker._loop.fleet.workers_of(session_id=session.session_id)

    play(scene)


def worker_starts(stage: AgentStage) -> int:
    """Workers that the broker knows to have started."""
    return sum(worker.is_started for worker in stage.broker._loop.fleet.workers.values())


def test_stop_that_was_lost_with_the_link_is_ordered_again(play: Play) -> None:
    """No single message has to arrive: the report is compared with what should be there."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        session = stage.open_session(7)
        leftovers = stage.broker._loop.fleet.leftovers
        await until(lambda: len(leftovers.workers_of(session.session_id)) == 2, "two workers were reported")

        agent.cut()
        stage.broker.close_session(session.session_id)
        await until(lambda: not stage.broker.nodes.links[NODE].is_reached, "the link noticed")
        during = len(agent.workers)
        agent.mend()
        await until(lambda: not agent.workers, "the workers were stopped")

        assert during == 2

    play(scene)


def test_agent_of_two_names_is_one_node(play: Play) -> None:
    """It joins under another address than the configuration's: the guest is forgotten in its first report."""

    async def scene(stage: AgentStage, agent: FakeAgent, other: FakeAgent) -> None:
        await until(lambda: stage.broker.nodes.links[NODE].is_reached, "the node is there")
        other.instance_id = agent.instance_id

        stage.broker.nodes.join(OTHER, OTHER)
        await until(lambda: OTHER not in stage.broker.nodes.links, "the twin is gone")

        assert [node.host for node in stage.broker.status().nodes] == [NODE]
        assert not stage.broker.failed.is_set()

    play(scene)


def test_node_that_joins_gets_workers_and_leaves_when_they_have_ended(play: Play) -> None:
    """A session that runs takes its cores at once."""

    async def scene(stage: AgentStage, _agent: FakeAgent, other: FakeAgent) -> None:
        session = stage.open_session(7)

        stage.broker.nodes.join(OTHER, OTHER)
        await until(lambda: len(other.workers) == 2, "its workers run")
        leaving = asyncio.ensure_future(stage.broker.nodes.leave(OTHER))
        await until(lambda: len(stage.lane_told("drain")) == 2, "its workers are drained")
        for name in list(other.workers):
            other.end_worker(name, "exit code 0", is_clean=True)

        assert await leaving
        assert session.hosts == {NODE, OTHER}
        assert [node.host for node in stage.broker.status().nodes] == [NODE]

    play(scene)


def test_what_workers_print_reaches_their_driver_before_the_flush_is_answered(play: Play) -> None:
    """The agent tells all that it has, then that this is all."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        session = stage.open_session(7)
        await until(lambda: len(agent.workers) == 2, "two workers run")
        output = orders_pb2.WorkerOutput(session_id=session.session_id, node="n1")
        output.lines.add(text="hello")

        agent.tell(worker_output=output)
        await stage.broker.flush_output(session.session_id)

        assert told(session) == ["admitted", "worker_output", "output_flushed"]

    play(scene)


def test_report_that_cannot_be_true_drops_the_agent_until_it_tells_better(play: Play) -> None:
    """Nothing of it is taken in."""

    async def scene(stage: AgentStage, agent: FakeAgent, _other: FakeAgent) -> None:
        await until(lambda: stage.broker.nodes.links[NODE].is_reached, "the node is there")

        agent.core_count = -1
        agent.report()
        await until(lambda: not stage.broker.nodes.links[NODE].is_reached, "the agent was dropped")
        during = [node.core_count for node in stage.broker.status().nodes]
        agent.core_count = 3
        await until(lambda: stage.broker.status().nodes[0].core_count == 3, "it is taken in again")

        assert during == [2]

    play(scene)
