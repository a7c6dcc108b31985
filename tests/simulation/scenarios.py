"""What a world has and what goes wrong in it, drawn from a seed. Values only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.fabric.faults import MESSAGE_KINDS, FaultKind
from tests.simulation.parts.drivers import Program, TaskPlan

if TYPE_CHECKING:
    from tests.simulation.world import World

FLEETS: Sequence[Mapping[str, int]] = (
    {"n1": 2, "n2": 3, "n3": 3},
    {"n1": 1, "n2": 3, "n3": 4},
    {"n1": 2, "n2": 2},
    {"n1": 4, "n2": 4},
    {"n1": 3},
)
RATES = (0.0, 0.1, 0.4, 0.6, 0.8)
# How long each message occupies its link: nothing to speak of, or so long that a driver needs a while to tell
# its lane all tasks, and something can happen in the middle.
MESSAGES_S = (1e-6, 1e-6, 0.001, 0.005)
# How long a program is busy with outcomes before it takes others.
BUSY_S = (0.0, 0.0, 0.05, 0.3)
# How long a node may be silent: as it is set by default, and much shorter.
NODE_TIMEOUTS_S = (15.0, 5.0)
# How long a lane needs to begin.
LANE_STARTS_S = (0.3, 0.05)
DURATIONS: Sequence[Callable[[random.Random], float]] = (
    lambda source: source.uniform(0.01, 0.1),
    lambda source: source.uniform(0.05, 0.5),
    lambda source: source.uniform(0.5, 5.0),
    lambda source: 0.01 + 4.0 * source.random() ** 4,
)


# How many runs have a kind of fault, if not as many as the others.
SHARES = {
    FaultKind.BLACKOUT: 0.1,
    FaultKind.DRIVER_CRASH: 0.2,
    FaultKind.BROKER_CRASH: 0.55,
    FaultKind.LANE_CRASH: 0.5,
}
# What ends drivers, too. It mostly hits other machines: without calculations nothing can go wrong.
ENDS_DRIVERS = (FaultKind.AGENT_CRASH, FaultKind.NODE_CRASH)
# After these sessions find together anew: each happens once at least where it may happen.
DEATHS = (FaultKind.BROKER_CRASH, FaultKind.LANE_CRASH)
# What hits while a new broker or a new lane does not know everything yet, and when: seconds from the death of
# the old one.
COMPANIONS: Sequence[tuple[FaultKind, float, float]] = (
    (FaultKind.AGENT_STOPPED, -7.0, 1.0),
    (FaultKind.AGENT_STOPPED, -7.0, 1.0),
    (FaultKind.CUT, -7.0, 1.0),
    (FaultKind.AGENT_CRASH, 0.0, 6.0),
    (FaultKind.AGENT_CRASH, 0.0, 6.0),
    (FaultKind.WORKER_CRASH, -1.0, 8.0),
)


class Start(NamedTuple):
    """A calculation that begins."""

    at_s: float
    machine: str
    program: Program


class AbortPlan(NamedTuple):
    """A person aborts a calculation: the driver of this number, if it is there."""

    at_s: float
    driver: int


class Struck(NamedTuple):
    """What a stroke did, in words, and what it hit: a machine, a process or a calculation."""

    words: str
    hit: str


# What is hit, if it is no node and no process with a number.
MASTER, BROKER, DBSERVER = "the master", "the broker", "the dbserver"


@dataclass(frozen=True, slots=True)
class Stroke:
    """A fault that comes at an instant.

    Args:
        at_s: when.
        kind: what.
        target: what it hits, as far as that is known before.
        amount: how long or how far.
        choice: from 0 to 1, which of those that there are.
    """

    at_s: float
    kind: FaultKind
    target: str
    amount: float
    choice: float

    def strike(self, world: World) -> Struck | None:
        """Do it; returns what happened, None if there was nothing to hit."""
        return STRIKES[self.kind](world, self)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world before its run."""

    seed: int
    cores: Mapping[str, int]
    serialize_jobs: int
    starts: Sequence[Start]
    strokes: Sequence[Stroke]
    aborts: Sequence[AbortPlan]
    enabled: frozenset[FaultKind]
    message_rate: float
    until_s: float
    message_s: float
    node_timeout_s: float
    lane_start_s: float
    task_timeout_s: float = math.inf
    max_attempts: int = 3


def drawn_kinds(scenario: Scenario) -> set[FaultKind]:
    """The faults of a scenario that come at an instant."""
    return {stroke.kind for stroke in scenario.strokes}


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    source = random.Random(f"{seed} scenario")
    cores = source.choice(FLEETS)
    # Each run has only some kinds of faults: rare ones come together then, and none hides another.
    rate = source.choice(RATES)
    enabled = {kind for kind in FaultKind if source.random() < SHARES.get(kind, 0.4)}
    if rate:
        enabled |= {kind for kind in MESSAGE_KINDS if source.random() < 0.6}
    # Most runs are short. What takes half a minute, such as a hold that is over, happens in the others.
    until_s = source.uniform(4.0, 20.0) if source.random() < 0.75 else source.uniform(20.0, 70.0)
    home = source.choice(sorted(cores))  # where most drivers are
    strokes = _strokes(source, _Targets(sorted(cores), home), enabled, until_s)
    enabled |= {stroke.kind for stroke in strokes}
    starts = [
        Start(
            source.uniform(0.1, max(4.0, until_s / 4)),
            home if source.random() < 0.7 else source.choice(sorted(cores)),
            program,
        )
        for program in _programs(source, FaultKind.POISON in enabled, sum(cores.values()), until_s)
    ]
    starts.sort()
    return Scenario(
        seed,
        cores,
        source.choice((0, 0, 1, 2)),
        starts,
        strokes,
        _aborts(source, until_s),
        frozenset(enabled),
        rate,
        until_s,
        message_s=source.choice(MESSAGES_S),
        node_timeout_s=source.choice(NODE_TIMEOUTS_S),
        lane_start_s=source.choice(LANE_STARTS_S),
        max_attempts=source.choice((1, 1, 2, 3)),
    )


def _aborts(source: random.Random, until_s: float) -> list[AbortPlan]:
    """Early enough that something may go wrong when they are carried out."""
    count = source.choice((0, 0, 1, 2))
    return [AbortPlan(source.uniform(0.5, 0.8 * until_s), number) for number in range(count)]


def _programs(source: random.Random, has_poison: bool, core_count: int, until_s: float) -> list[Program]:
    """Calculations, most of which would take as long as things go wrong, or a part of that."""
    found = []
    for number in range(1, source.choice((1, 2, 2, 3)) + 1):
        duration = source.choice(DURATIONS)
        count = source.choice((3, 20, 80, 250))
        is_known = source.random() < 0.3
        durations_s = [duration(source) * min(1.0, 60 / count) for _ in range(count)]
        if source.random() < 0.75:
            work_s = until_s * source.uniform(0.1, 1.0) * min(count, core_count)
            stretch = work_s / sum(durations_s)
            durations_s = [stretch * each for each in durations_s]
        tasks = []
        for duration_s in durations_s:
            is_poison = has_poison and source.random() < 0.5 / count
            weight = 1.0 if source.random() < 0.7 else source.choice((0.5, 3.0))
            tasks.append(TaskPlan(duration_s, is_poison, weight, duration_s if is_known else 0.0))
        max_workers = source.choice((0, 0, 2))
        has_job = source.random() < 0.9
        busy_s = source.choice(BUSY_S)
        found.append(Program(f"calculation {number}", tuple(tasks), has_job, max_workers, busy_s))
    return found


class _Targets(NamedTuple):
    """The machines that strokes hit, and the one where most drivers are."""

    machines: Sequence[str]
    home: str

    def choose(self, source: random.Random, kind: FaultKind) -> str:
        """A machine."""
        others = [each for each in self.machines if each != self.home]
        if kind in ENDS_DRIVERS and others and source.random() < 0.8:
            return source.choice(others)
        return source.choice(self.machines)


def _strokes(
    source: random.Random, targets: _Targets, enabled: Iterable[FaultKind], until_s: float
) -> list[Stroke]:
    kinds = sorted((kind for kind in enabled if kind in STRIKES), key=lambda kind: kind.name)
    usable = [kind for kind in kinds if kind is not FaultKind.BLACKOUT]
    found = []
    if usable:
        instants = _instants(source, source.choice((1, 4, 12, 30)), until_s)
        found = [_stroke(source, targets, source.choice(usable), at_s) for at_s in instants]
        found += [
            _stroke(source, targets, kind, source.uniform(1.0, 0.7 * until_s))
            for kind in DEATHS
            if kind in usable
        ]
        found += [each for stroke in found for each in _companions(source, targets, stroke, until_s)]
    if FaultKind.BLACKOUT in kinds:  # one, and early: it leaves no calculation
        found.append(_stroke(source, targets, FaultKind.BLACKOUT, source.uniform(0.5, 6.0)))
    return sorted(found, key=lambda stroke: stroke.at_s)


def _companions(source: random.Random, targets: _Targets, stroke: Stroke, until_s: float) -> Iterator[Stroke]:
    """What comes shortly before or after the death of a broker or a lane, at one machine."""
    if stroke.kind not in DEATHS:
        return
    machine = targets.choose(source, FaultKind.AGENT_CRASH)
    for _ in range(source.choice((0, 2, 2, 3))):
        kind, first_s, last_s = source.choice(COMPANIONS)
        at_s = stroke.at_s + source.uniform(first_s, last_s)
        if 0.3 < at_s < until_s:
            yield Stroke(at_s, kind, machine, source.random(), source.random())


def _instants(source: random.Random, count: int, until_s: float) -> list[float]:
    """When something goes wrong: at any time, or in bursts, where one fault hits what another left."""
    if source.random() < 0.5:
        return [source.uniform(0.3, until_s) for _ in range(count)]
    bursts = [source.uniform(0.3, until_s) for _ in range(1 + count // 6)]
    return [min(until_s, source.choice(bursts) + source.uniform(0.0, 4.0)) for _ in range(count)]


def _stroke(source: random.Random, targets: _Targets, kind: FaultKind, at_s: float) -> Stroke:
    return Stroke(at_s, kind, targets.choose(source, kind), source.random(), source.random())


# --- what each kind does


def _crash_worker(world: World, stroke: Stroke) -> Struck | None:
    workers = [worker for node in world.nodes.values() for worker in node.workers.values()]
    if not workers:
        return None
    worker = workers[int(stroke.choice * len(workers))]
    for driver in world.drivers:
        if driver.rules is not None and driver.rules.session_id == worker.place.session_id:
            world.crash_counts[driver.program.name] += 1
    worker.end(11)
    return Struck(
        f"worker {worker.place.worker_id} on {worker.node.machine} crashes",
        f"worker {worker.place.worker_id}",
    )


def _crash_agent(world: World, stroke: Stroke) -> Struck | None:
    node = world.nodes[stroke.target]
    if not node.is_agent_up:
        return None
    node.crash_agent(0.5 + 4 * stroke.amount)
    return Struck(f"the agent of {stroke.target} is killed with all its children", stroke.target)


def _crash_node(world: World, stroke: Stroke) -> Struck | None:
    node = world.nodes[stroke.target]
    if not node.is_powered:
        return None
    back_s = 3 + 30 * stroke.amount
    node.crash(back_s)
    return Struck(f"{stroke.target} loses its power for {back_s:.0f} s", stroke.target)


def _black_out(world: World, stroke: Stroke) -> Struck | None:
    back_s = 3 + 10 * stroke.amount
    for node in world.nodes.values():
        node.crash(back_s)
    world.master.crash(back_s * stroke.choice)
    world.database.crash(back_s * stroke.choice)
    return Struck(f"all machines lose their power for {back_s:.0f} s at most", "all machines")


def _stop_agent(world: World, stroke: Stroke) -> Struck | None:
    node = world.nodes[stroke.target]
    seconds = min(0.2 + 20 * stroke.amount, max(0.5, world.scenario.until_s - world.now_s))
    if not node.stop_for(seconds):
        return None
    return Struck(f"the agent of {stroke.target} stands still for {seconds:.1f} s", stroke.target)


def _crash_lane(world: World, stroke: Stroke) -> Struck | None:
    lanes = [lane for lane in world.master.lanes if lane.is_alive and lane.door is not None]
    if not lanes:
        return None
    lane = lanes[int(stroke.choice * len(lanes))]
    lane.die("killed")
    return Struck(f"the lane on port {lane.port} is killed", f"lane {lane.port}")


def _crash_broker(world: World, stroke: Stroke) -> Struck | None:
    if world.master.broker is None:
        return None
    back_s = 0.2 + 6 * stroke.amount**2
    world.master.crash(back_s)
    return Struck(f"the broker is killed, and back after {back_s:.1f} s", BROKER)


def _crash_database(world: World, stroke: Stroke) -> Struck | None:
    if not world.database.is_up:
        return None
    back_s = 0.2 + 6 * stroke.amount
    world.database.crash(back_s)
    return Struck(f"the dbserver is killed, and back after {back_s:.1f} s", DBSERVER)


def _crash_driver(world: World, stroke: Stroke) -> Struck | None:
    drivers = [driver for driver in world.drivers if driver.is_alive]
    if not drivers:
        return None
    driver = drivers[int(stroke.choice * len(drivers))]
    driver.die()
    return Struck(f"the driver of {driver.program.name} is killed", driver.program.name)


def _stop(world: World, stroke: Stroke) -> Struck | None:
    seconds = min(0.2 + 12 * stroke.amount**2, max(0.5, world.scenario.until_s - world.now_s))
    workers = [worker for node in world.nodes.values() for worker in node.workers.values()]
    lanes = [lane for lane in world.master.lanes if lane.is_alive and lane.door is not None]
    if stroke.choice < 0.4 and workers:
        worker = workers[int(stroke.choice / 0.4 * len(workers))]
        worker.stop_for(seconds)
        who = f"worker {worker.place.worker_id}"
        return Struck(f"{who} stands still for {seconds:.1f} s", who)
    if stroke.choice < 0.7 and lanes:
        lane = lanes[int((stroke.choice - 0.4) * len(lanes)) % len(lanes)]
        lane.stop_for(seconds)
        return Struck(f"the lane on port {lane.port} stands still for {seconds:.1f} s", f"lane {lane.port}")
    seconds = min(2 + 60 * stroke.amount, max(0.5, world.scenario.until_s - world.now_s))
    world.database.stop_for(seconds)
    return Struck(f"the dbserver stands still for {seconds:.0f} s", DBSERVER)


def _cut(world: World, stroke: Stroke) -> Struck | None:
    up, down = stroke.kind is not FaultKind.CUT_IN, stroke.kind is not FaultKind.CUT_OUT
    if not world.nodes[stroke.target].is_powered:
        return None
    seconds = 0.5 + 25 * stroke.amount**2
    world.cut(stroke.target, seconds, up=up, down=down)
    return Struck(f"{stroke.kind.value} ({stroke.target}, for {seconds:.1f} s)", stroke.target)


def _jump(world: World, stroke: Stroke) -> Struck | None:
    offset_s = (stroke.amount - 0.5) * 20_000
    if stroke.choice < 0.5:
        world.wall.offset_s = offset_s
        return Struck(f"the clock of the master jumps by {offset_s:.0f} s", MASTER)
    world.nodes[stroke.target].wall.offset_s = offset_s
    return Struck(f"the clock of {stroke.target} jumps by {offset_s:.0f} s", stroke.target)


def _fill(world: World, stroke: Stroke) -> Struck | None:
    where = "the dbserver" if stroke.choice < 0.7 else "the lanes"
    seconds = 0.5 + 10 * stroke.amount
    world.fill_disk(where, seconds)
    return Struck(f"the disk of {where} is full for {seconds:.1f} s", where)


STRIKES: Mapping[FaultKind, Callable[[World, Stroke], Struck | None]] = {
    FaultKind.WORKER_CRASH: _crash_worker,
    FaultKind.AGENT_CRASH: _crash_agent,
    FaultKind.NODE_CRASH: _crash_node,
    FaultKind.LANE_CRASH: _crash_lane,
    FaultKind.BROKER_CRASH: _crash_broker,
    FaultKind.DATABASE_CRASH: _crash_database,
    FaultKind.DRIVER_CRASH: _crash_driver,
    FaultKind.BLACKOUT: _black_out,
    FaultKind.STOPPED: _stop,
    FaultKind.AGENT_STOPPED: _stop_agent,
    FaultKind.CUT: _cut,
    FaultKind.CUT_IN: _cut,
    FaultKind.CUT_OUT: _cut,
    FaultKind.CLOCK_JUMP: _jump,
    FaultKind.DISK_FULL: _fill,
}
