"""Nodes that the dbserver has shut out, as the broker treats them: no link, no workers, no way back in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.access.principals import NODE_PART, Principal, PrincipalRole
from quakegrid.services.broker.nodes.shut_out import ShutOutNodes
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support.broker_fakes import NODE, Stage, until

GUEST, ADDRESS, ELSEWHERE = "guest", "10.9.8.7:1909", "10.9.8.6:1909"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a cluster with one configured node."""
    path = testing.write_cluster_config(tmp_path / "state", {})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


def hosts(stage: Stage) -> dict[str, bool]:
    """The nodes of the fleet, and whether they are up."""
    return {node.host: node.is_up for node in stage.broker.status().nodes}


def test_guest_that_is_shut_out_leaves_at_once(settings: Settings) -> None:
    """With its workers; the next broker does not watch it either, and it is let in when it counts again."""

    async def run() -> None:
        stage = Stage(settings)
        shut_out = ShutOutNodes(stage.broker.nodes)
        stage.broker.nodes.join(GUEST, ADDRESS)
        stage.links[GUEST].report(is_first=True)
        assert hosts(stage) == {NODE: True, GUEST: True}

        shut_out.take(frozenset({GUEST, "stranger"}))

        await until(lambda: hosts(stage) == {NODE: True}, "the guest is gone")
        assert GUEST not in stage.broker.nodes.links
        with pytest.raises(errors.CredentialError, match=r"the node guest is shut out: .*--host guest"):
            shut_out.check(GUEST)
        await stage.close()
        again = Stage(settings)
        assert set(again.links) == {NODE}
        shut_out.take(frozenset())
        shut_out.check(GUEST)
        await again.close()

    asyncio.run(run())


def test_workers_of_a_node_that_is_shut_out_are_given_up(settings: Settings) -> None:
    """At once, so that their tasks run elsewhere; a configured node stays listed, and says why it is out."""

    async def run() -> None:
        stage = Stage(settings)
        shut_out = ShutOutNodes(stage.broker.nodes)
        session = await stage.session(1)
        assert stage.broker.status().nodes[0].worker_count == 2

        shut_out.take(frozenset({NODE}))
        shut_out.take(frozenset({NODE}))

        (node,) = stage.broker.status().nodes
        assert (node.is_up, node.core_count, node.worker_count) == (False, 0, 0)
        assert f"`quakegrid token create --node --host {NODE}`" in node.state
        told = [message for lane in stage.lanes for message in lane.told if message.HasField("worker_lost")]
        assert len(told) == 2
        old = stage.links[NODE]
        shut_out.take(frozenset())
        assert stage.links[NODE] is not old
        stage.links[NODE].report(is_first=True)
        assert hosts(stage) == {NODE: True}
        assert session.session_id
        await stage.close()

    asyncio.run(run())


def test_node_that_has_moved_is_watched_where_it_is(settings: Settings) -> None:
    """Unless it is up where it was: then another one asks in its name."""

    async def run() -> None:
        stage = Stage(settings)
        nodes = stage.broker.nodes
        nodes.join(GUEST, ADDRESS)
        with pytest.raises(errors.StateError, match=f"the node guest is up at {ADDRESS}.*revoke guest"):
            nodes.join(GUEST, ELSEWHERE)
        assert nodes.links[GUEST].address == ADDRESS

        stage.links[GUEST].is_reached = False
        nodes.join(GUEST, ELSEWHERE)

        assert nodes.links[GUEST].address == ELSEWHERE
        nodes.join(NODE, "10.0.0.1:9")  # the configuration says where this one is
        assert nodes.links[NODE].address == f"{NODE}:{settings.agent_port}"
        await stage.close()

    asyncio.run(run())


def test_calculations_that_a_shut_out_node_started_end(settings: Settings) -> None:
    """With the reason; those of other nodes go on, and those that an agent with the authkey has certified."""

    async def run() -> None:
        stage = Stage(settings)
        mine, other, service = [await stage.session(number) for number in (1, 2, 3)]
        mine.principal = Principal(PrincipalRole.DRIVER, "anna", "a" * NODE_PART + "0" * 16)
        other.principal = Principal(PrincipalRole.DRIVER, "ben", "b" * NODE_PART + "0" * 16)

        stage.broker.end_sessions_of(frozenset())
        stage.broker.end_sessions_of(frozenset({"a" * NODE_PART, ""}))

        assert mine.end_reason == "the node that started the calculation was shut out"
        assert not other.end_reason
        assert not service.end_reason
        await stage.close()

    asyncio.run(run())
