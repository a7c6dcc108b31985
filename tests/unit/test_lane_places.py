"""Which lane a session lives on, and which lanes there are."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.broker import lane_places as core
from services.broker.lane_places import LanePlaces, LaneState


def opened(ports: int = 4, limit: int = 3) -> LanePlaces:
    """Places with one open lane."""
    places = LanePlaces(range(1, ports + 1), limit)
    assert places.handle(core.TimePassed(), 0.0) == [core.OpenLane(1, 1)]
    assert places.handle(core.LaneOpened(1), 0.0) == []
    return places


def test_session_gets_the_lane_that_is_ready_and_another_is_prepared() -> None:
    """The next one shall not wait either."""
    places = opened()

    assert places.handle(core.SessionArrived(7), 0.0) == [core.PlaceSession(7, 1), core.OpenLane(2, 2)]


def test_session_waits_for_a_lane_that_starts() -> None:
    """Rather than sharing one."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)

    arrived = places.handle(core.SessionArrived(8), 0.0)
    ready = places.handle(core.LaneOpened(2), 0.0)

    assert arrived == [core.OpenLane(3, 3)]
    assert ready == [core.PlaceSession(8, 2)]


def test_sessions_share_the_least_loaded_lane_when_there_can_be_no_more() -> None:
    """By sessions, then by tasks."""
    places = opened(limit=2)
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneOpened(2), 0.0)
    places.handle(core.SessionArrived(8), 0.0)
    places.handle(core.TasksCounted(7, 10), 0.0)
    places.handle(core.TasksCounted(8, 5), 0.0)

    third = places.handle(core.SessionArrived(9), 0.0)
    fourth = places.handle(core.SessionArrived(10), 0.0)

    assert third == [core.PlaceSession(9, 2)]
    assert fourth == [core.PlaceSession(10, 1)]


def test_lane_that_stays_empty_is_closed_but_one_is_kept() -> None:
    """After a while: the next session may come at once."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneOpened(2), 10.0)

    left = places.handle(core.SessionLeft(7), 20.0)
    deadline_s = places.next_deadline_s()
    early = places.handle(core.TimePassed(), 100.0)
    late = places.handle(core.TimePassed(), 10.0 + core.IDLE_S)

    assert (left, early) == ([], [])
    assert deadline_s == 10.0 + core.IDLE_S
    assert late == [core.CloseLane(2)]
    assert places.next_deadline_s() is None


def test_port_that_is_taken_is_passed_over_and_told() -> None:
    """The session gets a lane on the next one."""
    places = LanePlaces(range(1, 4), 3)
    places.handle(core.TimePassed(), 0.0)
    places.handle(core.SessionArrived(7), 0.0)

    refused = places.handle(core.LaneRefused(1, "port 1 is taken"), 0.0)
    ready = places.handle(core.LaneOpened(2), 0.0)

    assert refused == [core.OpenLane(3, 3)]
    assert ready == [core.PlaceSession(7, 2)]
    assert places.refusals == {1: "port 1 is taken"}


def test_without_any_port_sessions_fail_and_the_next_one_tries_again() -> None:
    """The ports may be free by then."""
    places = LanePlaces([1], 3)
    places.handle(core.TimePassed(), 0.0)
    places.handle(core.SessionArrived(7), 0.0)

    failed = places.handle(core.LaneRefused(1, "port 1 is taken"), 0.0)
    again = places.handle(core.SessionArrived(8), 0.0)

    assert failed == [core.FailSession(7, "no lane can be started: port 1 is taken")]
    assert again == [core.OpenLane(2, 1)]


def test_dead_lane_fails_its_sessions_only_and_another_takes_its_place() -> None:
    """On another port, if there is one."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneOpened(2), 0.0)
    places.handle(core.SessionArrived(8), 0.0)
    places.handle(core.LaneOpened(3), 0.0)
    places.handle(core.SessionArrived(9), 0.0)

    actions = places.handle(core.LaneDied(1, "it died"), 0.0)

    assert actions == [core.FailSession(7, "it died"), core.OpenLane(4, 4)]


class PlacesMachine(RuleBasedStateMachine):
    """Sessions come and go, lanes open, refuse and die, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.places = LanePlaces(range(4), 3)
        self.now_s = 0.0
        self.lanes: dict[int, LaneState] = {}
        self.sessions: dict[int, int | None] = {}
        self.last_id = 0
        self.play(core.TimePassed())

    def play(self, event: core.Event) -> None:
        """Hand over an event and obey."""
        for action in self.places.handle(event, self.now_s):
            match action:
                case core.OpenLane(lane_id, _):
                    assert lane_id not in self.lanes
                    self.lanes[lane_id] = LaneState.STARTING
                case core.CloseLane(lane_id):
                    assert lane_id not in self.sessions.values()
                    del self.lanes[lane_id]
                case core.PlaceSession(session_id, lane_id):
                    assert self.sessions[session_id] is None
                    assert self.lanes[lane_id] is LaneState.OPEN
                    self.sessions[session_id] = lane_id
                case core.FailSession(session_id, reason):
                    assert reason
                    del self.sessions[session_id]

    @rule()
    def arrive(self) -> None:
        """A session comes."""
        self.last_id += 1
        self.sessions[self.last_id] = None
        self.play(core.SessionArrived(self.last_id))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A session goes, placed or not."""
        if self.sessions:
            session_id = data.draw(st.sampled_from(sorted(self.sessions)))
            del self.sessions[session_id]
            self.play(core.SessionLeft(session_id))

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """A lane that starts is open, or could not be."""
        starting = [lane_id for lane_id, state in self.lanes.items() if state is LaneState.STARTING]
        if starting:
            lane_id = data.draw(st.sampled_from(starting))
            if data.draw(st.booleans()):
                self.lanes[lane_id] = LaneState.OPEN
                self.play(core.LaneOpened(lane_id))
            else:
                del self.lanes[lane_id]
                self.play(core.LaneRefused(lane_id, "taken"))

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """An open lane dies."""
        there = [lane_id for lane_id, state in self.lanes.items() if state is LaneState.OPEN]
        if there:
            lane_id = data.draw(st.sampled_from(there))
            del self.lanes[lane_id]
            self.play(core.LaneDied(lane_id, "killed"))

    @rule(seconds=st.sampled_from([1.0, core.IDLE_S]), task_count=st.integers(0, 3))
    def wait(self, seconds: float, task_count: int) -> None:
        """Time goes by, and somebody has tasks."""
        self.now_s += seconds
        self.play(core.TasksCounted(max(self.sessions, default=0), task_count))
        self.play(core.TimePassed())

    @invariant()
    def is_consistent(self) -> None:
        """Everybody is in one place, and nobody waits for nothing."""
        self.places.check()
        assert {lane_id: lane.state for lane_id, lane in self.places.lanes.items()} == self.lanes
        empty = [each for each in self.lanes if each not in self.sessions.values()]
        assert not any(lane is None for lane in self.sessions.values()) or empty


TestPlacesMachine = PlacesMachine.TestCase
TestPlacesMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
