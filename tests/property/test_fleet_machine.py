"""The fleet core under nodes that come and go, sessions whose tasks come and go, and dying workers."""

from __future__ import annotations

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet, FleetSession
from quakegrid.services.broker.fleet.placing import shares
from quakegrid.services.broker.fleet.state import PersonLimits, count_cores
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended

CORES = {"n0": 1, "n1": 3, "n2": 4}
SERIALIZE_JOBS = 2
MAX_ROUNDS = 200


class FleetMachine(RuleBasedStateMachine):
    """Plays agents, lanes and drivers; its model is which worker sits on which node."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet([HostCores(host, -1) for host in CORES], SERIALIZE_JOBS, "run")
        self.burst_count = 0
        self.up: set[str] = set()
        self.given = dict(CORES)
        self.seats: dict[str, str] = {}
        self.widths: dict[str, int] = {}
        self.starting: set[str] = set()
        self.leaving: set[str] = set()
        self.session_ids: list[int] = []
        self.admitted: set[int] = set()
        self.last_id = 0
        for host in ("n1", "n2"):
            self.report(host)

    def play(self, event: fleet.Event) -> list[fleet.Action]:
        """Hand over an event and obey; in a burst the cores are divided after the last event only."""
        actions = self.fleet.handle(event, 0.0)
        for action in actions:
            self.obey(action)
        if self.burst_count:
            self.burst_count -= 1
            return actions
        return actions + self.place()

    def place(self) -> list[fleet.Action]:
        """End a turn of the loop."""
        self.burst_count = 0
        actions = self.fleet.place()
        for action in actions:
            self.obey(action)
        return actions

    @rule(count=st.integers(1, 5))
    def begin_burst(self, count: int) -> None:
        """So many events come in one turn of the loop, and the next one ends it."""
        self.burst_count = count

    def obey(self, action: fleet.Action) -> None:
        """What the edge and the agents do."""
        match action:
            case fleet.StartWorkers(host, session_id, worker_ids, width):
                assert session_id in self.admitted
                assert host in self.up
                assert not self.seats.keys() & set(worker_ids), "a worker's name was used again"
                self.seats |= dict.fromkeys(worker_ids, host)
                self.starting |= set(worker_ids)
                self.widths |= dict.fromkeys(worker_ids, width)
                assert 0 < width <= self.fleet.sessions[session_id].width
                assert self.taken(host) <= self.given[host], "a core is shared"
            case fleet.DrainWorker(_, worker_id):
                assert worker_id in self.seats
                assert worker_id not in self.leaving, "drained twice"
                self.leaving.add(worker_id)
            case fleet.StopWorkers(host, session_id, _, _):
                mine = [
                    worker.worker_id for worker in self.fleet.workers_of(session_id=session_id, host=host)
                ]
                self.leaving |= set(mine)
            case fleet.LoseWorker(end):
                self.forget(end.worker_id)
            case fleet.Admit(session_id):
                assert session_id not in self.admitted
                self.admitted.add(session_id)
            case fleet.ForgetNode(host):
                assert host not in self.seats.values(), "a worker was forgotten with its node"
                self.up.discard(host)
            case fleet.FailSession() | fleet.Queue():
                pass

    def taken(self, host: str) -> int:
        """Cores of a node that workers have."""
        return sum(self.widths[worker_id] for worker_id, seat in self.seats.items() if seat == host)

    def forget(self, worker_id: str) -> None:
        """The worker's process is gone."""
        self.seats.pop(worker_id, None)
        self.starting.discard(worker_id)
        self.leaving.discard(worker_id)

    @rule(host=st.sampled_from(sorted(CORES)))
    def come(self, host: str) -> None:
        """A node comes up, or says again that it is."""
        self.report(host)

    def report(self, host: str) -> None:
        """The node's agent says what it has; a node that had left joins first."""
        self.up.add(host)
        self.play(fleet.NodeJoined(host))
        self.play(fleet.NodeReported(host, host, self.given[host], "warm"))

    @rule(host=st.sampled_from(sorted(CORES)))
    def leave(self, host: str) -> None:
        """A node asks to be forgotten."""
        self.play(fleet.NodeLeaving(host))
        if host in self.fleet.nodes:
            assert self.taken(host), "nothing kept it"
            self.up.discard(host)

    @rule(data=st.data(), host=st.sampled_from(sorted(CORES)))
    def dial(self, data: st.DataObject, host: str) -> None:
        """Somebody changes how many cores a node gives."""
        self.given[host] = data.draw(st.integers(0, CORES[host]))
        if host in self.up:
            self.report(host)

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def run_short(self, data: st.DataObject) -> None:
        """A node is short of memory, until it reports again."""
        host = data.draw(st.sampled_from(sorted(self.up)))
        self.play(fleet.NodeReported(host, host, self.given[host], "warm", is_short_of_memory=True))

    @rule(host=st.sampled_from(sorted(CORES)))
    def lose(self, host: str) -> None:
        """A node vanishes with all that it ran."""
        if host not in self.fleet.nodes:
            return
        self.up.discard(host)
        self.play(fleet.NodeLost(host, "gone"))
        for worker_id in [each for each, seat in self.seats.items() if seat == host]:
            self.forget(worker_id)

    @rule(host=st.sampled_from(sorted(CORES)))
    def restart_agent(self, host: str) -> None:
        """An agent is back with none of the workers that it had; what was being started is refused."""
        mine = [each for each, seat in self.seats.items() if seat == host]
        refused = tuple(each for each in mine if each in self.starting)
        for worker_id in mine:
            self.forget(worker_id)
        self.play(fleet.WorkersRefused(refused))
        self.up.add(host)
        self.play(fleet.NodeJoined(host))
        self.play(fleet.NodeReported(host, host, self.given[host], "warm", frozenset()))

    @rule(
        has_job=st.booleans(),
        is_local=st.sampled_from([False, False, False, True]),
        max_workers=st.sampled_from([0, 0, 0, 2, 4]),
        weight=st.sampled_from([0.5, 1.0, 1.0, 3.0]),
        width=st.sampled_from([1, 1, 1, 2, 3, 9]),
    )
    def request(self, has_job: bool, is_local: bool, max_workers: int, weight: float, width: int) -> None:
        """A driver comes."""
        self.last_id += 1
        self.session_ids.append(self.last_id)
        jobs = (self.last_id,) if has_job else ()
        self.play(
            fleet.SessionRequested(self.last_id, jobs, is_local, max_workers, weight, width=width),
        )

    @precondition(lambda self: self.session_ids)
    @rule(data=st.data(), is_forced=st.booleans())
    def end(self, data: st.DataObject, is_forced: bool) -> None:
        """A driver goes."""
        session_id = data.draw(st.sampled_from(self.session_ids))
        self.session_ids.remove(session_id)
        self.play(fleet.SessionEnded(session_id, is_forced))

    @precondition(lambda self: self.session_ids)
    @rule(data=st.data(), task_count=st.integers(0, 12))
    def count(self, data: st.DataObject, task_count: int) -> None:
        """A lane tells what a session has to do."""
        session_id = data.draw(st.sampled_from(self.session_ids))
        mine = [worker.worker_id for worker in self.fleet.workers_of(session_id=session_id)]
        self.play(fleet.TasksCounted(session_id, task_count, frozenset(mine[:task_count])))

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """An agent starts a worker, or says no."""
        if self.starting:
            worker_id = data.draw(st.sampled_from(sorted(self.starting)))
            if data.draw(st.booleans()):
                self.starting.discard(worker_id)
                self.play(fleet.WorkersStarted((worker_id,)))
            else:
                self.forget(worker_id)
                self.play(fleet.WorkersRefused((worker_id,)))

    @rule(data=st.data(), is_clean=st.booleans())
    def exit(self, data: st.DataObject, is_clean: bool) -> None:
        """A worker ends, by itself, drained, stopped or killed."""
        if self.seats:
            worker_id = data.draw(st.sampled_from(sorted(self.seats)))
            self.forget(worker_id)
            self.play(ended(worker_id, "end", is_clean=is_clean))

    @rule(count=st.sampled_from([1, 3, 40]))
    def wait(self, count: int) -> None:
        """Time goes by."""
        for _ in range(count):
            self.play(fleet.SecondPassed())

    @rule()
    def settle(self) -> None:
        """With agents that do as they are told, cores come to rest where they belong."""
        self.place()
        quiet_s = 0
        for _ in range(MAX_ROUNDS):
            for worker_id in list(self.leaving):
                self.forget(worker_id)
                self.play(ended(worker_id, "end", is_clean=True))
            self.play(fleet.WorkersStarted(tuple(self.starting)))
            self.starting.clear()
            actions = self.play(fleet.SecondPassed())
            quiet_s = 0 if actions else quiet_s + 1
            if quiet_s > 3:
                break
        else:
            assert self.is_crowded(), "workers flap"
            return
        self.check_shares()
        for node in self.fleet.nodes.values():
            assert self.taken(node.host) <= node.core_count, "a core was not given back"

    def placed(self) -> list[FleetSession]:
        """Sessions that may have workers."""
        return [each for each in self.fleet.sessions.values() if each.is_admitted and not each.is_local]

    def is_crowded(self) -> bool:
        """Whether there are fewer cores than sessions that want one."""
        core_count = self.fleet.core_count
        return sum(each.wanted_count(core_count) > 0 for each in self.placed()) > core_count

    def check_shares(self) -> None:
        """At rest no core is idle while somebody wants it, and all have their share within a core."""
        core_count = self.fleet.core_count
        wanting = [each for each in self.placed() if each.wanted_count(core_count) and not each.is_idle]
        have = {
            each.session_id: count_cores(self.fleet.workers_of(session_id=each.session_id))
            for each in self.placed()
        }
        lacking = [each for each in wanting if have[each.session_id] < each.wanted_count(core_count)]
        if lacking:
            assert sum(have.values()) == core_count
        if len(wanting) < core_count:
            exact = shares.exact_shares(core_count, [each.demand(core_count) for each in wanting])
            for session, share in zip(wanting, exact, strict=True):
                assert have[session.session_id] > share - 1

    @invariant()
    def is_consistent(self) -> None:
        """No core is shared, no bound broken, and the core knows who sits where."""
        self.fleet.check()
        assert {name: worker.host for name, worker in self.fleet.workers.items()} == self.seats

    @invariant()
    def turns_are_kept(self) -> None:
        """A job waits only while as many execute as may."""
        jobs = [session for session in self.fleet.sessions.values() if session.job_ids]
        executing = sum(session.is_admitted for session in jobs)
        assert executing == min(SERIALIZE_JOBS, len(jobs))


class MixedFleetMachine(FleetMachine):
    """Nodes are upgraded one by one, and sessions ask for one version, the other, or none."""

    def __init__(self) -> None:
        self.versions = {"n0": "1", "n1": "2", "n2": "1"}
        self.asked: dict[int, str] = {}
        super().__init__()

    def obey(self, action: fleet.Action) -> None:
        """Workers start only where what was asked for is."""
        if isinstance(action, fleet.StartWorkers):
            assert self.asked[action.session_id] in ("", self.versions[action.host])
        super().obey(action)

    @rule(host=st.sampled_from(sorted(CORES)), version=st.sampled_from("12"))
    def upgrade(self, host: str, version: str) -> None:
        """A node's template was refreshed; its workers go on."""
        self.versions[host] = version
        self.report(host)

    @rule(version=st.sampled_from(["1", "2"]), max_workers=st.sampled_from([0, 0, 2]))
    def ask(self, version: str, max_workers: int) -> None:
        """A driver comes that needs a version."""
        self.last_id += 1
        self.session_ids.append(self.last_id)
        self.asked[self.last_id] = version
        wish = fleet.SessionRequested(self.last_id, (), max_workers=max_workers, fingerprint={"x": version})
        self.play(wish)

    def play(self, event: fleet.Event) -> list[fleet.Action]:
        """Sessions of the other machine ask for nothing, and agents always say what they have."""
        match event:
            case fleet.SessionRequested(session_id):
                self.asked.setdefault(session_id, "")
            case fleet.NodeReported(host):
                event = dataclasses.replace(event, fingerprint={"x": self.versions[host]})
        return super().play(event)

    def check_shares(self) -> None:
        """At rest no core is idle while somebody wants it who can use it."""
        free = {
            node.host: node.core_count - count_cores(self.fleet.workers_of(host=node.host))
            for node in self.fleet.nodes.values()
        }
        for session in self.placed():
            fitting = [node for node in self.fleet.nodes.values() if session.fits(node)]
            wanted = session.wanted_count(sum(node.core_count for node in fitting))
            have = count_cores(self.fleet.workers_of(session_id=session.session_id))
            assert have >= wanted or not any(free[node.host] for node in fitting)


class PersonsFleetMachine(FleetMachine):
    """Sessions belong to three persons, or to nobody; nobody may have more than a limit."""

    LIMITS = PersonLimits(max_jobs=1, max_cores=3)

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet([HostCores(host, -1) for host in CORES], SERIALIZE_JOBS, "run", limits=self.LIMITS)
        for host in ("n1", "n2"):
            self.report(host)

    def obey(self, action: fleet.Action) -> None:
        """Workers start only where the person may have them, those that are about to end counted."""
        super().obey(action)
        if isinstance(action, fleet.StartWorkers):
            person = self.fleet.sessions[action.session_id].owner
            mine = [each for each in self.fleet.sessions.values() if each.owner == person]
            have = sum(count_cores(self.fleet.workers_of(session_id=each.session_id)) for each in mine)
            assert have <= self.LIMITS.max_cores

    def play(self, event: fleet.Event) -> list[fleet.Action]:
        """Every fourth session is nobody's."""
        if isinstance(event, fleet.SessionRequested):
            person = ("", "anna", "ben", "carl")[event.session_id * 7 % 11 % 4]
            event = dataclasses.replace(event, person=person)
        return super().play(event)

    def check_shares(self) -> None:
        """At rest no core is idle while somebody wants it who may have it."""
        core_count = self.fleet.core_count
        free = core_count - count_cores(self.fleet.workers.values())
        of_person: dict[object, list[FleetSession]] = {}
        for session in self.placed():
            of_person.setdefault(session.owner, []).append(session)
        for sessions in of_person.values():
            have = sum(count_cores(self.fleet.workers_of(session_id=each.session_id)) for each in sessions)
            wanted = sum(each.wanted_count(core_count) for each in sessions)
            assert have >= min(wanted, self.LIMITS.max_cores) or not free

    @invariant()
    def turns_are_kept(self) -> None:
        """A job waits only while as many execute as may, of all persons or of its own."""
        jobs = [session for session in self.fleet.sessions.values() if session.job_ids]
        executing = [session.owner for session in jobs if session.is_admitted]
        assert len(executing) <= SERIALIZE_JOBS
        assert len(set(executing)) == len(executing)
        if len(executing) < SERIALIZE_JOBS:
            assert {session.owner for session in jobs} == set(executing)


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True)
TestMixedFleetMachine = MixedFleetMachine.TestCase
TestMixedFleetMachine.settings = TestFleetMachine.settings
TestPersonsFleetMachine = PersonsFleetMachine.TestCase
TestPersonsFleetMachine.settings = TestFleetMachine.settings
