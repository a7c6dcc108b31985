"""What a new broker knows of the nodes that an earlier one had, and when lanes hear of their workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.services.broker.nodes import joined, registry
from quakegrid.services.broker.nodes.instances import Instances
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support.broker_fakes import NODE, Stage, settle, until

OTHER = "10.9.8.7"
ADDRESS = f"{OTHER}:1909"
FAR = 40


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a cluster with one configured node."""
    path = testing.write_cluster_config(tmp_path / "state", {"distribution": {"serialize_jobs": 10}})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


def test_nodes_are_kept_and_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """A broker starts whatever is there."""
    assert joined.read(tmp_path) == {}
    joined.write(tmp_path, {OTHER: ADDRESS})
    assert joined.read(tmp_path) == {OTHER: ADDRESS}
    for nonsense in ("{", "[]", "3"):
        (tmp_path / joined.FILE_NAME).write_text(nonsense)
        assert joined.read(tmp_path) == {}


def test_full_disk_costs_the_memory_and_no_join(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The node is watched all the same."""
    joined.write(tmp_path / "gone", {OTHER: ADDRESS})

    assert "joined_nodes_not_kept" in caplog.text


def test_new_broker_watches_the_nodes_that_joined_the_earlier_one(settings: Settings) -> None:
    """It need not wait until they find that nobody watches them; one that left is not watched."""

    async def run() -> None:
        first = Stage(settings)
        first.broker.nodes.join(OTHER, ADDRESS)
        await first.close()
        second = Stage(settings)
        assert second.links[OTHER].address == ADDRESS
        second.links[OTHER].report(is_first=True)
        assert await second.broker.nodes.leave(OTHER)
        await second.close()
        third = Stage(settings)
        assert set(third.links) == {NODE}
        await third.close()

    asyncio.run(run())


async def resume(stage: Stage, settings: Settings, session_id: int) -> None:
    """A driver of an earlier broker comes back."""
    token, port = stage.token(session_id), settings.lane_ports[0]
    await stage.session(resumed_session_id=session_id, resumed_token=token, lane_port=port)


def workers_told(stage: Stage) -> list[list[str]]:
    """The workers that lanes were told of sessions."""
    return [
        sorted(message.workers.worker_ids)
        for lane in stage.lanes
        for message in lane.told
        if message.HasField("workers")
    ]


def test_lane_hears_of_the_workers_when_all_nodes_have_told_theirs(settings: Settings) -> None:
    """A session that came back before that is opened without: its driver waits for all of them."""
    joined.write(settings.state_dir, {OTHER: ADDRESS})

    async def run() -> None:
        stage = Stage(settings)
        await settle()
        await resume(stage, settings, FAR)
        assert workers_told(stage) == []
        stage.links[OTHER].workers = {"w1": FAR, "w2": FAR}
        stage.links[OTHER].report(is_first=True)
        await until(lambda: bool(workers_told(stage)), "the lane is told")
        assert {"w1", "w2"} < set(*workers_told(stage))  # and two that were started
        await resume(stage, settings, FAR + 1)
        assert workers_told(stage)[1:] == [[]]
        await stage.close()

    asyncio.run(run())


def test_node_that_does_not_answer_is_not_waited_for_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be down since long."""
    joined.write(settings.state_dir, {OTHER: ADDRESS})
    monkeypatch.setattr(registry, "KNOWN_S", 0.0)

    async def run() -> None:
        stage = Stage(settings)
        await until(lambda: stage.broker.nodes.are_known, "all is known that can be")
        await stage.close()

    asyncio.run(run())


def test_hosts_of_one_agent_are_known_together() -> None:
    """Until one of them has another agent, or none."""
    instances = Instances()

    assert instances.note("a", "x") == {"a"}
    assert instances.note("b", "x") == {"a", "b"}
    assert instances.note("b", "x") == {"a", "b"}
    assert instances.note("a", "y") == {"a"}
    assert instances.host_of("x") == "b"
    assert instances.note("b", "") == ()
    assert instances.host_of("x") is None
    assert instances.note("b", "") == ()
    assert instances.host_of("y") == "a"
