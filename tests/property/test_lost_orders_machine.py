"""The fleet core and agents whose orders and answers get lost: what runs comes to be what should run."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.fleet.leftovers import RESUME_GRACE_S, STOP_AGAIN_S
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step

CORES = {"n1": 2, "n2": 3}
HOSTS = st.sampled_from(sorted(CORES))
# A stop may become due just after it was looked for, and what starts in its place has to be told in its turn.
MAX_ROUNDS = 10


class LostOrdersMachine(RuleBasedStateMachine):
    """Plays agents behind bad links; its model is which processes really run, and where."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet([HostCores(host, -1) for host in CORES], 0, "run")
        self.running: dict[str, tuple[str, int]] = {}
        self.answers: list[fleet.Event] = []
        self.cut: set[str] = set()
        self.lost: set[str] = set()
        self.is_lossy = False
        self.session_ids: list[int] = []
        self.last_id = 0
        for host in CORES:
            self.report(host)

    def play(self, event: fleet.Event) -> None:
        """Hand over an event and obey, as far as orders arrive."""
        for action in step(self.fleet, event):
            match action:
                case fleet.StartWorkers(host, session_id, worker_ids):
                    self.start(host, session_id, worker_ids)
                case fleet.StopWorkers(host, session_id, _, worker_ids) if self.hears(host):
                    self.stop(host, session_id, worker_ids)
                case _:
                    pass

    def hears(self, host: str) -> bool:
        """Whether an order arrives."""
        return host not in self.cut and not self.is_lossy

    def start(self, host: str, session_id: int, worker_ids: tuple[str, ...]) -> None:
        """The order arrives and is answered; or it arrives and the answer is lost; or it does not arrive."""
        if host not in self.cut:
            self.running |= dict.fromkeys(worker_ids, (host, session_id))
        is_answered = self.hears(host)
        self.answers.append(
            fleet.WorkersStarted(worker_ids) if is_answered else fleet.WorkersRefused(worker_ids)
        )

    def stop(self, host: str, session_id: int, worker_ids: tuple[str, ...]) -> None:
        """The agent ends workers, all of the session if none are named."""
        for worker_id in [
            name
            for name, place in self.running.items()
            if place == (host, session_id) and (not worker_ids or name in worker_ids)
        ]:
            del self.running[worker_id]
            self.answers.append(ended(worker_id, "stopped", is_clean=True))

    def report(self, host: str, *, is_first: bool = True) -> None:
        """The agent tells what it has."""
        here = tuple((name, place[1]) for name, place in self.running.items() if place[0] == host)
        present = frozenset(name for name, _ in here) if is_first else None
        self.play(fleet.NodeReported(host, host, CORES[host], "warm", present, here))

    @rule(host=HOSTS)
    def come(self, host: str) -> None:
        """A link is there again, or the agent reports once more."""
        is_first = host in self.cut
        self.cut.discard(host)
        self.lost.discard(host)
        self.report(host, is_first=is_first)

    @rule(host=HOSTS)
    def cut_link(self, host: str) -> None:
        """A link breaks; answers that were on the way are lost with it."""
        self.cut.add(host)

    @rule(host=HOSTS)
    def lose(self, host: str) -> None:
        """A link was cut for so long that the node counts as lost."""
        if host in self.cut and host not in self.lost:
            self.lost.add(host)
            self.play(fleet.NodeLost(host, "gone"))

    @rule(is_lossy=st.booleans())
    def lose_orders(self, is_lossy: bool) -> None:
        """Agents fail to do what they are told, or do it again."""
        self.is_lossy = is_lossy

    @rule()
    def answer(self) -> None:
        """An answer arrives."""
        if self.answers:
            self.deliver(self.answers.pop(0))

    def deliver(self, answer: fleet.Event) -> None:
        """What an agent on a broken link tells of an exit is lost; calls end all the same."""
        if isinstance(answer, WorkerEnd):
            worker = self.fleet.workers.get(answer.worker_id)
            if worker and worker.host in self.cut:
                return
        self.play(answer)
        for host in sorted(CORES.keys() - self.cut):  # agents report each change
            self.report(host, is_first=False)

    @rule()
    def request(self) -> None:
        """A driver comes."""
        self.last_id += 1
        self.session_ids.append(self.last_id)
        self.play(fleet.SessionRequested(self.last_id, ()))

    @precondition(lambda self: self.session_ids)
    @rule(data=st.data(), is_forced=st.booleans())
    def end(self, data: st.DataObject, is_forced: bool) -> None:
        """A driver goes."""
        session_id = data.draw(st.sampled_from(self.session_ids))
        self.session_ids.remove(session_id)
        self.play(fleet.SessionEnded(session_id, is_forced))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        """A worker ends by itself."""
        worker_id = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[worker_id]
        self.answers.append(ended(worker_id, "end", is_clean=False))

    @rule(data=st.data(), host=HOSTS)
    def find_stranger(self, data: st.DataObject, host: str) -> None:
        """A worker that this broker never ordered."""
        session_id = data.draw(st.integers(1, self.last_id + 3))
        if sum(place[0] == host for place in self.running.values()) < CORES[host]:
            self.running[f"old-{len(self.running)}-{self.last_id}"] = (host, session_id)

    @rule(count=st.sampled_from([1, 4, 40]))
    def wait(self, count: int) -> None:
        """Time goes by."""
        for _ in range(count):
            self.play(fleet.SecondPassed())

    @rule()
    def settle(self) -> None:
        """Once links are there and agents obey, what runs is what should run: nothing of an ended session."""
        self.is_lossy = False
        for host in sorted(CORES):
            self.come(host)
        for _ in range(MAX_ROUNDS):
            for _ in range(max(RESUME_GRACE_S, STOP_AGAIN_S)):
                self.play(fleet.SecondPassed())
            while self.answers:
                self.deliver(self.answers.pop(0))
            for worker in [each for each in self.fleet.workers.values() if each.is_draining]:
                self.stop(worker.host, worker.session_id, (worker.worker_id,))
            for host in sorted(CORES):
                self.report(host, is_first=False)
        while self.answers:
            self.deliver(self.answers.pop(0))
        owners = {session_id for _, session_id in self.running.values()}
        assert owners <= set(self.session_ids), "workers of a session that has ended stay"
        assert self.fleet.workers.keys() == self.running.keys(), (
            "the core counts other workers than there are"
        )

    @invariant()
    def is_consistent(self) -> None:
        """No bound is broken."""
        self.fleet.check()


TestLostOrdersMachine = LostOrdersMachine.TestCase
TestLostOrdersMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)
