"""A whole cluster of three nodes at most: its calculations and its faults are decided by a seed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quakegrid import testing
from quakegrid.reports import task_history_files
from quakegrid.services.broker.drivers.job_ends import JobEnds
from quakegrid.services.broker.happenings.kept import EventFile
from quakegrid.services.lane.mail import SessionMail
from quakegrid.services.lane.records import TaskRecorder
from quakegrid.services.lane.tasks.events import OutcomeArrived
from quakegrid.settings import config, lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.settings.hosts import HostCores
from quakegrid.transport.keys import lane_keys
from tests.simulation.fabric.clock import VirtualLoop, WallClock, virtual
from tests.simulation.fabric.faults import Fault, FaultKey, FaultKind, Faults
from tests.simulation.fabric.wires import Network
from tests.simulation.parts.database import SimulatedDatabase
from tests.simulation.parts.drivers import SimulatedDriver
from tests.simulation.parts.master import PlayedChannel, SimulatedMaster
from tests.simulation.parts.nodes import SimulatedNode
from tests.simulation.promises import Promises
from tests.simulation.scenarios import Scenario, Stroke

# How long a world may take to come to rest once nothing goes wrong any more, and to tidy up after that.
REST_S = 400.0
LEFT_ALONE_S = 50.0
LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went.

    Args:
        seed: of the run.
        violation: the promise that was broken; empty if none was.
        digest: of everything that happened, in its order.
        faults: that happened, without those that follow from others.
        counts: of all faults, by kind.
        end_s: virtual seconds that it took.
        task_count: outcomes that programs took.
    """

    seed: int
    violation: str
    digest: str
    faults: tuple[Fault, ...]
    counts: Counter[Any] = field(default_factory=Counter)
    end_s: float = 0.0
    task_count: int = 0
    trace: tuple[str, ...] = ()


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Where the broker has its secret; removed at the end of this process."""
    return tempfile.TemporaryDirectory(prefix="qgsim")


@functools.cache
def base_settings() -> Settings:
    """Settings as a cluster has them."""
    place = Path(folder().name)
    path = testing.write_cluster_config(place / "state", {})
    (place / "other").mkdir()
    found = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    lane_secrets.of_broker(found.state_dir)
    task_history_files.folder(found).mkdir(parents=True, exist_ok=True)
    return found


@functools.cache
def secret() -> str:
    """The secret of the broker."""
    return lane_secrets.of_broker(base_settings().state_dir)


class World:
    """One run.

    Args:
        scenario: what it has, and what goes wrong.
        only: the only faults that may happen.
        is_thorough: whether all books are checked after every step.
    """

    def __init__(
        self, scenario: Scenario, *, only: frozenset[FaultKey] | None = None, is_thorough: bool = False
    ) -> None:
        self.scenario = scenario
        self.loop = VirtualLoop()
        self.wall = WallClock(self.loop)
        self.faults = Faults(
            scenario.seed, only, scenario.until_s, scenario.enabled, message_rate=scenario.message_rate
        )
        self.network = Network(self.loop, self.faults, scenario.message_s)
        self.settings = dataclasses.replace(
            base_settings(),
            agent_host_cores=tuple(HostCores(machine, -1) for machine in scenario.cores),
            serialize_jobs=scenario.serialize_jobs,
            max_attempts=scenario.max_attempts,
            lane_ports=tuple(range(1, 8)),
            broker_port=9,
            agent_port=8,
            task_timeout_s=scenario.task_timeout_s,
            node_timeout_s=scenario.node_timeout_s,
        )
        self.other_dir = Path(folder().name) / "other"
        self.token_key = lane_keys.token_key(secret())
        self._pid = 100
        self._digest = hashlib.blake2b(digest_size=12)
        self._trace: list[str] = []
        self.is_traced = is_thorough
        self._full_disks: dict[str, float] = {}
        self._cut_until_s: dict[str, float] = {}
        self.crash_counts = Counter[str]()
        self._error: BaseException | None = None
        self.promises = Promises(self, is_thorough=is_thorough)
        self.database = SimulatedDatabase(self)
        self.nodes = {
            machine: SimulatedNode(self, machine, count) for machine, count in scenario.cores.items()
        }
        self.master = SimulatedMaster(self)
        self.drivers: list[SimulatedDriver] = []

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return self.loop.now_s

    def new_pid(self) -> int:
        """The id of a new process."""
        self._pid += 1
        return self._pid

    def trace(self, *words: object) -> None:
        """Note what happens, for the digest."""
        line = f"{self.loop.now_s:.6f} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self.is_traced:
            self._trace.append(line)

    # --- a run

    def run(self) -> Run:
        """Let everything happen until the world is at rest, or a promise is broken."""
        self.loop.set_exception_handler(self._on_exception)
        violation = ""
        with virtual(self.loop, self.wall, self.scenario.seed), quiet(), watched(self.promises):
            self.loop.call_soon(self._begin)
            try:
                self.loop.run_forever()
                self._raise()
            except Exception as exc:  # noqa: BLE001 - a broken promise, a bug of the product, or of ours
                violation = f"{type(exc).__name__}: {exc}"
                self._trace += traceback.format_exc().splitlines() if self.is_traced else []
            finally:
                self._close()
        return Run(
            self.scenario.seed,
            violation,
            self._digest.hexdigest(),
            tuple(self.faults.happened),
            self.faults.counts,
            self.loop.now_s,
            self.promises.done_count,
            tuple(self._trace),
        )

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _begin(self) -> None:
        self.master.start()
        for start in self.scenario.starts:
            self.loop.call_later(start.at_s, self._start, start)
        for number, stroke in enumerate(self.scenario.strokes):
            self.loop.call_later(stroke.at_s, self._strike, number, stroke)
        for abort in self.scenario.aborts:
            self.loop.call_later(abort.at_s, self._abort, abort.driver)
        self.loop.call_later(self.scenario.until_s, self._mend_all)
        self.loop.call_later(LOOK_S, self._look)

    def _start(self, start: Any) -> None:
        node = self.nodes[start.machine]
        if node.is_agent_up:
            self.drivers.append(SimulatedDriver(self, node, start.program))

    def _strike(self, number: int, stroke: Stroke) -> None:
        key = FaultKey(stroke.kind, stroke.target, number)
        if self.faults.may(key, self.now_s):
            struck = stroke.strike(self)
            if struck is not None:
                self.faults.note(key, self.now_s, *struck)
                self.trace("fault", struck.words)
                self.promises.check_books()

    def _abort(self, number: int) -> None:
        driver = self.drivers[number] if number < len(self.drivers) else None
        if driver is not None and driver.job_id and self.master.broker is not None:
            self.promises.aborted_jobs[driver.job_id] = self.now_s
            self.trace("abort", driver.program.name)
            self.master.abort(driver.job_id)

    def _look(self) -> None:
        """Whether the world is at rest."""
        self.promises.check_books()
        is_mended = self.now_s > self.scenario.until_s
        has_ended = len(self.drivers) > 0 and not any(driver.is_alive for driver in self.drivers)
        if is_mended and (has_ended or self.now_s > self.scenario.until_s + REST_S):
            self._rest(self.now_s + LEFT_ALONE_S)
        else:
            self.loop.call_later(LOOK_S, self._look)

    def _rest(self, end_s: float) -> None:
        """Whether everything has come to its end; a broken promise if it has not in time."""
        if self.now_s < end_s and not self.promises.is_at_rest():
            self.loop.call_later(LOOK_S, self._rest, end_s)
            return
        self.promises.check_rest()
        self.trace("rest")
        self.loop.stop()

    def _on_exception(self, _loop: object, context: dict[str, Any]) -> None:
        """A callback failed: a broken promise, or a bug; what a dead broker leaves does not count."""
        exc = context.get("exception")
        if exc is not None and type(exc).__name__ != "BrokerFailedError":
            self.fail(exc)

    def fail(self, exc: BaseException) -> None:
        """End the run: a promise is broken."""
        if self._error is None:
            self._error = exc
        self.loop.stop()

    def _close(self) -> None:
        self.master.crash(1e9)
        self.loop.set_exception_handler(lambda _loop, _context: None)
        with contextlib.suppress(Exception):
            self.loop.call_later(0.001, self.loop.stop)
            self.loop.run_forever()
        self.database.close()
        self.loop.close()

    # --- links, disks and clocks

    def cut(self, machine: str, seconds: float, *, up: bool, down: bool) -> None:
        """Cut a machine off for a while."""
        self._cut_until_s[machine] = self.now_s + seconds
        self.network.cut(machine, up=up, down=down)
        self.loop.call_later(seconds, self._mend_due, machine)

    def _mend_due(self, machine: str) -> None:
        if self.now_s >= self._cut_until_s.get(machine, 0.0) - 1e-6 and self.nodes[machine].is_powered:
            self.network.heal(machine)

    def mend_link(self, machine: str) -> None:
        """A machine that was off is on the network again; its old connections are gone."""
        for connection in list(self.network.connections.values()):
            if connection.machine == machine:
                connection.break_up()
        for stream in list(self.network.streams.values()):
            if stream.machine == machine:
                stream.break_up("the machine was booted")
        self.network.heal(machine)

    def fill_disk(self, where: str, seconds: float) -> None:
        """Let a disk be full for a while."""
        self._full_disks[where] = self.now_s + seconds

    def is_disk_full(self, where: str) -> bool:
        """Whether nothing can be written."""
        return self._full_disks.get(where, 0.0) > self.now_s

    def is_poison(self, calculation: str, number: int) -> bool:
        """Whether a task that kills its workers may do so in this run."""
        key = FaultKey(FaultKind.POISON, calculation, number)
        return FaultKind.POISON in self.faults.enabled and (
            self.faults.only is None or key in self.faults.only
        )

    def on_poison(self, calculation: str, number: int) -> None:
        """A task kills its worker."""
        words = f"task {number} of {calculation} kills its worker"
        self.faults.note(FaultKey(FaultKind.POISON, calculation, number), self.now_s, words)

    def is_deaf_to_aborts(self, driver: SimulatedDriver) -> bool:
        """Whether a driver hangs when it is told to stop."""
        return driver.pid % 2 == 0

    def _mend_all(self) -> None:
        """Nothing goes wrong from now on."""
        self._full_disks.clear()
        self.wall.offset_s = 0.0
        for machine, node in self.nodes.items():
            node.wall.offset_s = 0.0
            if node.is_powered:
                self.network.heal(machine)


@contextlib.contextmanager
def watched(promises: Promises) -> Iterator[None]:
    """Tell the promises what lanes hand out, get and pass on."""
    send_task, deliver, count = SessionMail.send_task, SessionMail.deliver, SessionMail.count_outcomes

    def send_and_tell(self: Any, peer: Any, lease: Any, payload: Any, now_s: float) -> None:
        promises.on_sent(*lease, peer.decode().rpartition(" ")[2])
        send_task(self, peer, lease, payload, now_s)

    def deliver_and_tell(self: Any, peer: Any, lease: Any, message: Any) -> None:
        promises.on_delivered(*lease, message[1][0].bytes.decode().rpartition(" ")[2])
        deliver(self, peer, lease, message)

    def count_and_tell(self: Any, peer: Any, event: Any) -> None:
        if type(event) is OutcomeArrived:
            promises.on_received(*event.lease)
        count(self, peer, event)

    mail: Any = SessionMail
    mail.send_task, mail.deliver, mail.count_outcomes = send_and_tell, deliver_and_tell, count_and_tell
    try:
        yield
    finally:
        mail.send_task, mail.deliver, mail.count_outcomes = send_task, deliver, count


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Write no log and no file."""
    logging.disable(logging.CRITICAL)
    replaced: list[tuple[Any, str, Any]] = [
        (EventFile, "append", lambda _self, _added, _everything: None),
        (EventFile, "read", lambda _self: []),
        (TaskRecorder, "flush", lambda _self: None),
        (TaskRecorder, "close", lambda _self: None),
        (JobEnds, "_channel", lambda _self: PlayedChannel()),
        (lane_secrets, "of_broker", lambda _state_dir: secret()),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    secret()
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        logging.disable(logging.NOTSET)
