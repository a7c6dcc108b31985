"""The broker itself: aborts, ends and bugs, with nodes, lanes and database in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.internal.v1 import orders_pb2, sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.services.broker.drivers import ends as session_ends
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.guard import BrokerFailedError
from quakegrid.services.broker.lanes import ports
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.wire.v1 import lane_pb2
from tests.support.broker_fakes import NODE, FakeLane, Stage, settle, told

Play = Callable[[Callable[[Stage], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs a play on a stage where nobody has patience: what is waited for comes at once, or never."""
    for name in ("ABORT_GRACE_S", "HEAD_START_S", "STATE_PATIENCE_S"):
        monkeypatch.setattr(session_ends, name, 0.01)
    settings = _settings(tmp_path)

    def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
        async def run() -> None:
            stage = Stage(settings)
            try:
                await scene(stage)
            finally:
                await stage.close()

        asyncio.run(run())

    return play


def _settings(directory: Path) -> Settings:
    path = testing.write_cluster_config(directory / "state", {"distribution": {"serialize_jobs": 1}})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


@pytest.mark.parametrize(("placement", "is_packed"), [("spread", False), ("pack", True)])
def test_administrator_says_how_workers_are_placed(tmp_path: Path, placement: str, is_packed: bool) -> None:
    """The fleet core gets what the settings say."""
    path = testing.write_cluster_config(tmp_path / "state", {"broker": {"placement": placement}})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})

    async def look() -> bool:
        stage = Stage(settings)
        try:
            return stage.broker._loop.fleet.is_packed
        finally:
            await stage.close()

    assert asyncio.run(look()) is is_packed


def test_abort_tells_who_did_it_and_leaves_no_process(play: Play) -> None:
    """Driver, workers and database: the driver pays no attention, and is ended."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        assert len(stage.link.workers) == 2

        was_running = await stage.broker.abort_job(7, "ann")
        await settle()

        assert was_running
        assert told(session) == ["admitted", "aborted", "end"]
        assert stage.database.ends == {7: (JobState.ABORTED, "aborted by ann")}
        assert stage.link.workers == {}
        assert stage.link.drivers == set()

    play(scene)


def test_abort_of_a_session_by_its_own_id_ends_it(play: Play) -> None:
    """That of a program has no job to name."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)

        owner = await stage.broker.owner_of_job(session.session_id)
        was_running = await stage.broker.abort_job(session.session_id, "ann")
        await settle()

        assert was_running
        assert owner == session.request.user_name
        assert told(session) == ["admitted", "aborted", "end"]
        assert stage.link.workers == {}
        assert not await stage.broker.abort_job(session.session_id, "ann"), "it has ended"

    play(scene)


def test_session_that_opens_while_its_owner_is_looked_up_has_one(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a stranger who guesses the next number could abort it."""

    async def scene(stage: Stage) -> None:
        opened = []

        async def owner_of(_number: int) -> None:
            opened.append(await stage.session(7))

        monkeypatch.setattr(stage.broker._job_ends, "owner_of", owner_of)

        owner = await stage.broker.owner_of_job(7)

        assert owner == opened[0].request.user_name
        assert owner is not None

    play(scene)


def test_abort_needs_no_dbserver(play: Play) -> None:
    """The state of the job is set when it is back, with the same reason."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        stage.database.is_there = False

        await stage.broker.abort_job(7, "ann")
        await settle()
        ends = dict(stage.database.ends)
        stage.database.is_there = True
        await stage.broker._job_ends.wait([7], 60)

        assert session.ended.is_set()
        assert ends == {}
        assert stage.link.workers == {}
        assert stage.database.ends == {7: (JobState.ABORTED, "aborted by ann")}

    play(scene)


def test_abort_of_what_is_not_here_says_that_the_dbserver_is_away(play: Play) -> None:
    """Nobody else can do it."""

    async def scene(stage: Stage) -> None:
        stage.database.is_there = False

        with pytest.raises(errors.PeerUnreachableError):
            await stage.broker.abort_job(8, "ann")

    play(scene)


def test_abort_while_the_link_of_the_node_is_cut_is_done_when_it_is_back(play: Play) -> None:
    """Before the node counts as lost: neither driver nor workers stay."""

    async def scene(stage: Stage) -> None:
        await stage.session(7)
        stage.link.is_reached = False

        await stage.broker.abort_job(7, "ann")
        await settle()
        during = set(stage.link.workers), set(stage.link.drivers)
        stage.link.is_reached = True
        stage.link.report(is_first=True)
        await settle()

        assert during != (set(), set())
        assert stage.link.workers == {}
        assert stage.link.drivers == set()
        assert stage.database.ends == {7: (JobState.ABORTED, "aborted by ann")}

    play(scene)


def test_abort_of_a_queued_job_ends_its_driver(play: Play) -> None:
    """It has neither a lane nor workers; the job before it goes on."""

    async def scene(stage: Stage) -> None:
        first = await stage.session(7)
        second = await stage.session(8)

        was_running = await stage.broker.abort_job(8, "bob")
        await settle()

        assert was_running
        assert told(second) == ["queued", "aborted", "end"]
        assert not first.ended.is_set()
        assert stage.database.ends == {8: (JobState.ABORTED, "aborted by bob")}
        assert len(stage.link.workers) == 2

    play(scene)


def test_second_abort_changes_nothing_and_waits_for_the_first(play: Play) -> None:
    """The first reason stays."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)

        both = await asyncio.gather(stage.broker.abort_job(7, "ann"), stage.broker.abort_job(7, "bob"))

        assert both == [True, True]
        assert told(session) == ["admitted", "aborted", "end"]
        assert stage.database.ends == {7: (JobState.ABORTED, "aborted by ann")}

    play(scene)


def test_driver_that_ends_by_itself_after_an_abort_leaves_the_job_aborted(play: Play) -> None:
    """Though its stream breaks, which fails the job of any other driver."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        aborting = asyncio.ensure_future(stage.broker.abort_job(7, "ann"))
        await settle()

        stage.broker.on_stream_ended(session, session.events)
        await aborting

        assert stage.database.ends == {7: (JobState.ABORTED, "aborted by ann")}

    play(scene)


def test_session_that_fails_is_told_so_once_with_the_first_reason(play: Play) -> None:
    """Whatever else goes wrong while its driver ends."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)

        stage.broker._ends.fail(session.session_id, "its lane died")
        stage.broker._ends.fail(session.session_id, "its workers died")
        await session.ended.wait()
        await settle()

        assert told(session) == ["admitted", "failed", "end"]
        assert stage.database.ends == {7: (JobState.FAILED, "its lane died")}

    play(scene)


def test_session_that_its_driver_closes_leaves_its_jobs_alone(play: Play) -> None:
    """The driver has given them their states."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)

        stage.broker.close_session(session.session_id)
        await settle()

        assert stage.database.ends == {}
        assert stage.link.workers == {}

    play(scene)


def test_output_is_flushed_also_when_a_node_has_left(play: Play) -> None:
    """Its lines are lost with it; those of the others are not."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        session.hosts.add("gone")

        await stage.broker.flush_output(session.session_id)

        assert stage.link.flushed == [session.session_id]
        assert told(session) == ["admitted", "output_flushed"]

    play(scene)


def test_bug_in_the_middle_of_the_actions_ends_the_broker(play: Play) -> None:
    """A handler, a timer or a reader finds it: nothing goes on with half of the actions done."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        lane = next(each for each in stage.lanes if each.port and each.told)
        stage.broker._totals.on_last_counts = broken  # type: ignore[method-assign]
        assert not stage.broker.failed.is_set()

        with pytest.raises(BrokerFailedError):
            lane.report(lane_pb2.LaneCounts(session_id=999))
        with pytest.raises(BrokerFailedError):
            stage.broker.close_session(session.session_id)

        assert stage.broker.failed.is_set()
        assert not session.ended.is_set()

    play_failing(play, scene)


def broken(_counts: object) -> None:
    """A bug."""
    raise errors.IllegalMoveError("a bug of ours")


def play_failing(play: Play, scene: Callable[[Stage], Awaitable[None]]) -> None:
    """A play whose broker ends as if killed."""

    async def without_end(stage: Stage) -> None:
        await scene(stage)
        stage.broker.failed.clear()

    play(without_end)


def test_driver_that_comes_back_as_its_lane_was_given_up_is_no_bug(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is about to be told that its session has failed."""
    monkeypatch.setattr(ports, "MAX_DEATHS", 0)

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        lane = lane_of(stage, session)
        lane.on_death("it died")
        lane.on_death("it died")

        again = stage.broker.open_session(session.request)

        assert again is session
        assert told(session) == ["failed"]

    play(scene)


def lane_of(stage: Stage, session: DriverSession) -> FakeLane:
    """The lane that a driver was told."""
    event = session.events.get_nowait()
    assert event is not None
    port = int(event.admitted.lane_endpoint.rpartition(":")[2])
    return next(lane for lane in stage.lanes if lane.port == port)


def test_lane_that_pauses_gets_its_sessions_back(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile the session has no lane, and nobody stumbles over that."""
    monkeypatch.setattr(ports, "PAUSES_S", (0.01,))

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        lane = lane_of(stage, session)
        stage.listening.clear()
        lane.on_death("it died")
        states = [each.state for each in stage.broker.status().lanes if each.port == lane.port]
        stage.broker.open_session(session.request)
        name = next(iter(stage.link.workers))
        stage.link.listener.on_worker_ended(NODE, orders_pb2.WorkerEnd(worker_id=name, reason="exit code 1"))
        await stage.listening.wait()
        await settle()

        found = next(each for each in stage.lanes if each.port == lane.port and each is not lane)
        opened = [message.open.session_id for message in found.told if message.HasField("open")]
        assert states == ["pausing"]
        assert told(session) == ["admitted"]
        assert opened == [session.session_id]
        assert not stage.broker.failed.is_set()

    play(scene)


def test_workers_start_while_their_lane_pauses(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for it by themselves; a node that refused them would count as one that cannot start any."""
    monkeypatch.setattr(ports, "PAUSES_S", (60.0,))

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        before = set(stage.link.workers)
        lane_of(stage, session).on_death("it died")
        name = before.copy().pop()
        del stage.link.workers[name]
        stage.link.listener.on_worker_ended(NODE, orders_pb2.WorkerEnd(worker_id=name, reason="exit code 1"))
        await settle()

        assert len(set(stage.link.workers) - before) == 1

    play(scene)


def test_refused_request_is_no_bug(play: Play) -> None:
    """A peer's mistake is its own."""

    async def scene(stage: Stage) -> None:
        with pytest.raises(errors.UsageError):
            stage.broker.open_session(sessions_pb2.OpenSessionRequest(weight=-1.0))

        assert not stage.broker.failed.is_set()

    play(scene)


def test_ids_of_strangers_do_not_move_ours(play: Play) -> None:
    """A session that goes on with a large id is followed by one with the next of our ids."""

    async def scene(stage: Stage) -> None:
        first = await stage.session(7)
        far, next_id = first.session_id + 10**12, first.session_id + 1
        port = first_port(stage)
        resumed = stage.broker.open_session(
            sessions_pb2.OpenSessionRequest(
                host=NODE, pid=9, resumed_session_id=far, resumed_token=stage.token(far), lane_port=port
            )
        )
        taken = stage.broker.open_session(
            sessions_pb2.OpenSessionRequest(
                host=NODE,
                pid=10,
                resumed_session_id=next_id,
                resumed_token=stage.token(next_id),
                lane_port=port,
            )
        )
        later = await stage.session(8)

        assert resumed.session_id == far
        assert taken.session_id == next_id
        assert later.session_id == first.session_id + 2

    play(scene)


def first_port(stage: Stage) -> int:
    """The port of a lane."""
    return next(lane.port for lane in stage.lanes if lane.port)


@pytest.mark.parametrize(
    "fields",
    [
        {"core_count": -5},
        {"cores_per_worker": 1 << 20},
        {"node": "evil\n2026 INFO forged"},
        {"node": "x" * 1000},
        {"workers": [{"worker_id": "", "session_id": 1}]},
        {"workers": [{"worker_id": "w", "session_id": -1}]},
        {"workers": [{"worker_id": "w", "session_id": (1 << 63) - 1}]},
        {"workers": [{"worker_id": "w", "session_id": 1}] * 2},
        {"fingerprint": {"numpy": "2" * 10_000}},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_report_that_cannot_be_true_is_refused(play: Play, fields: dict[str, object]) -> None:
    """Nothing of it is taken in, and the broker goes on."""

    async def scene(stage: Stage) -> None:
        with pytest.raises(errors.PeerError):
            stage.link.report(**fields)
        stage.link.report()

        assert not stage.broker.failed.is_set()
        assert [node.core_count for node in stage.broker.status().nodes] == [2]

    play(scene)


def test_agent_tells_only_of_the_ends_of_its_own_workers(play: Play) -> None:
    """What it says of another node's worker is ignored."""

    async def scene(stage: Stage) -> None:
        await stage.session(7)
        stage.broker.nodes.join("other", "127.0.0.9:1")
        name = next(iter(stage.link.workers))

        stage.links["other"].listener.on_worker_ended(
            "other", orders_pb2.WorkerEnd(worker_id=name, reason="it says so")
        )

        assert stage.broker.status().nodes[0].worker_count == 2

    play(scene)
