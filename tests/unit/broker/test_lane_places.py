"""Which lane a session lives on, and which lanes there are."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quakegrid.services.broker.lanes import ports as core
from quakegrid.services.broker.lanes.ports import LanePlaces, LaneState


def opened(ports: int = 4, limit: int = 3) -> LanePlaces:
    """Places with one open lane."""
    places = LanePlaces(range(1, ports + 1), limit)
    assert places.handle(core.RetryDue(), 0.0) == [core.OpenLane(1, 1)]
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
    places.handle(core.LoadCounted(7, 10), 0.0)
    places.handle(core.LoadCounted(8, 5), 0.0)

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
    early = places.handle(core.RetryDue(), 100.0)
    late = places.handle(core.RetryDue(), 10.0 + core.IDLE_S)

    assert (left, early) == ([], [])
    assert deadline_s == 10.0 + core.IDLE_S
    assert late == [core.CloseLane(2)]
    assert places.next_deadline_s() is None


def test_port_that_is_taken_is_passed_over_and_told() -> None:
    """The session gets a lane on the next one."""
    places = LanePlaces(range(1, 4), 3)
    places.handle(core.RetryDue(), 0.0)
    places.handle(core.SessionArrived(7), 0.0)

    refused = places.handle(core.LaneRefused(1, "port 1 is taken"), 0.0)
    ready = places.handle(core.LaneOpened(2), 0.0)

    assert refused == [core.OpenLane(3, 3)]
    assert ready == [core.PlaceSession(7, 2)]
    assert places.refusals == {1: "port 1 is taken"}


def test_without_any_port_sessions_fail_and_the_next_one_tries_again() -> None:
    """The ports may be free by then."""
    places = LanePlaces([1], 3)
    places.handle(core.RetryDue(), 0.0)
    places.handle(core.SessionArrived(7), 0.0)

    failed = places.handle(core.LaneRefused(1, "port 1 is taken"), 0.0)
    again = places.handle(core.SessionArrived(8), 0.0)

    assert failed == [core.GiveUpSession(7, "no lane can be started: port 1 is taken")]
    assert again == [core.OpenLane(2, 1)]


def test_dead_lane_is_started_again_with_its_sessions() -> None:
    """On the port where their peers look for it; the other sessions hear nothing."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneOpened(2), 0.0)
    places.handle(core.SessionArrived(8), 0.0)
    port = places.lanes[1].port

    actions = places.handle(core.LaneDied(1, "it died"), 0.0)
    lane = places.lane_of(7)

    assert actions[0] == core.OpenLane(4, port, (7,))
    assert lane is not None
    assert (lane.lane_id, lane.port) == (4, port)


def test_lane_that_dies_again_and_again_fails_its_sessions() -> None:
    """Its port is left alone then."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    port = places.lanes[1].port
    for death in range(core.MAX_DEATHS):
        lane = places.lane_of(7)
        assert lane is not None
        places.handle(core.LaneOpened(lane.lane_id), float(death))
        places.handle(core.LaneDied(lane.lane_id, "it died"), float(death))
    lane = places.lane_of(7)
    assert lane is not None

    actions = places.handle(core.LaneDied(lane.lane_id, "it died"), 10.0)

    assert actions[0] == core.GiveUpSession(7, "it died, for the 11th time in a minute")
    assert port in places.refusals


def test_lane_that_cannot_start_in_place_of_a_dead_one_is_tried_again() -> None:
    """It may have been killed, too, or a stopped process may still have its port: after a pause."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    port = places.lanes[1].port
    (second, *_) = places.handle(core.LaneDied(1, "it died"), 0.0)
    assert isinstance(second, core.OpenLane)

    refused = places.handle(core.LaneRefused(second.lane_id, "its process ended at once"), 1.0)
    retry_s = places.next_deadline_s()
    assert retry_s is not None
    actions = places.handle(core.RetryDue(), retry_s)

    lane = places.lane_of(7)
    assert lane is not None
    assert refused == []
    assert actions == [core.OpenLane(lane.lane_id, port, (7,))]


def test_port_that_is_taken_for_some_seconds_costs_its_sessions_nothing() -> None:
    """A lane that died is tried again with growing pauses, about half a minute in all."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneDied(1, "it died"), 0.0)
    now_s = 0.0

    while (lane := places.lane_of(7)) is not None and now_s < 100:
        deadline_s = places.next_deadline_s()
        if lane.state is LaneState.PAUSING and deadline_s is not None:
            now_s = deadline_s
            places.handle(core.RetryDue(), now_s)
        else:
            places.handle(core.LaneRefused(lane.lane_id, "taken"), now_s)
        places.check()

    assert 20 < now_s < 60


def test_session_of_an_earlier_broker_ends_the_pause_of_its_lane() -> None:
    """Its driver waits for it now."""
    places = opened()
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneDied(1, "it died"), 0.0)
    lane = places.lane_of(7)
    assert lane is not None
    places.handle(core.LaneRefused(lane.lane_id, "taken"), 0.0)

    actions = places.handle(core.SessionResumed(8, lane.port), 0.0)

    started = places.lane_of(7)
    assert started is not None
    assert actions == [
        core.OpenLane(started.lane_id, lane.port, (7,)),
        core.PlaceSession(8, started.lane_id),
    ]


def test_session_of_an_earlier_broker_gets_its_port_back() -> None:
    """A lane is opened there, whatever else there is; a port that is not ours any more is an error."""
    places = opened()
    port = places.ports[2]

    actions = places.handle(core.SessionResumed(7, port), 0.0)
    again = places.handle(core.SessionResumed(8, port), 0.0)
    wrong = places.handle(core.SessionResumed(9, 99), 0.0)

    lane = places.lane_of(7)
    assert lane is not None
    assert core.OpenLane(lane.lane_id, port) in actions
    assert core.PlaceSession(7, lane.lane_id) in actions
    assert core.PlaceSession(8, lane.lane_id) in again
    assert isinstance(wrong[0], core.GiveUpSession)


class PlacesMachine(RuleBasedStateMachine):
    """Sessions come and go, lanes open, refuse and die, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.places = LanePlaces(range(4), 3)
        self.now_s = 0.0
        self.lanes: dict[int, LaneState] = {}
        self.sessions: dict[int, int | None] = {}
        self.last_id = 0
        self.play(core.RetryDue())

    def play(self, event: core.Event) -> None:
        """Hand over an event and obey."""
        for action in self.places.handle(event, self.now_s):
            match action:
                case core.OpenLane(lane_id, _, session_ids):
                    assert lane_id not in self.lanes
                    self.lanes[lane_id] = LaneState.STARTING
                    self.sessions |= dict.fromkeys(session_ids, lane_id)
                case core.CloseLane(lane_id):
                    assert lane_id not in self.sessions.values()
                    del self.lanes[lane_id]
                case core.PlaceSession(session_id, lane_id):
                    assert self.sessions[session_id] is None
                    assert self.lanes[lane_id] is LaneState.OPEN
                    self.sessions[session_id] = lane_id
                case core.GiveUpSession(session_id, reason):
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

    @rule(seconds=st.sampled_from([0.1, 1.0, core.IDLE_S]), task_count=st.integers(0, 3))
    def wait(self, seconds: float, task_count: int) -> None:
        """Time goes by, and somebody has tasks."""
        self.now_s += seconds
        self.play(core.LoadCounted(max(self.sessions, default=0), task_count))
        self.play(core.RetryDue())

    @invariant()
    def is_consistent(self) -> None:
        """Everybody is in one place, and nobody waits for nothing."""
        self.places.check()
        states = {lane_id: lane.state for lane_id, lane in self.places.lanes.items()}
        running = {lane_id: state for lane_id, state in states.items() if state is not LaneState.PAUSING}
        assert running == self.lanes
        is_waiting = any(lane is None for lane in self.sessions.values())
        assert not is_waiting or set(states.values()) - {LaneState.OPEN}
        if running != states:
            assert self.places.next_deadline_s() is not None


TestPlacesMachine = PlacesMachine.TestCase
TestPlacesMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
