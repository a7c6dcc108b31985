"""Sends a door's inputs and measures: who died, who was not served, what grew."""

from __future__ import annotations

import itertools
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.fuzz.door import Door, inputs
from tests.fuzz.neighbours import Neighbour
from tests.fuzz.scenes import Scene
from tests.support import kernel
from tests.support.kernel import Usage

# A neighbour that waits so long is not served any more; so much, as tests run on busy machines.
STALL_S = 20.0
# Caches and the allocator's arenas of a service fill up in the beginning, whatever comes in.
GROWTH_BYTES = 128 << 20
# A service that takes all memory fails, and leaves the machine to others.
ADDRESS_SPACE_BYTES = 8 << 30
SETTLE_S = 15.0
# Connections of others come and go meanwhile. The dbserver keeps up to 8 connections to the database open,
# with up to three files each. SQLite closes the files of others late: not while a connection holds a lock.
# The broker has a connection to the dbserver for each session that is being opened.
FILE_SLACK = {"dbserver": 60, "broker": 40}
USUAL_FILE_SLACK = 12
# What services log by themselves in a run: starts and ends of the neighbours' sessions.
LOG_SLACK_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Order:
    """What is sent.

    Args:
        seed: of the inputs.
        first: number of the first input.
        count: of inputs, at most.
        longest_s: time, at most.
        batch_count: inputs in a batch; 0 for the door's own number.
    """

    seed: int
    count: int
    first: int = 0
    longest_s: float = float("inf")
    batch_count: int = 0


@dataclass
class Figures:
    """What came of it.

    Args:
        door: its name.
        order: what was wanted.
        input_count: inputs sent.
        duration_s: of the sending.
        gaps_s: longest wait of each neighbour.
        before: usage of each process before the first input.
        after: the same after the last one.
        log_bytes: what all logs grew by.
        violations: what must not be, with the numbers of the inputs before it.
    """

    door: str
    order: Order
    input_count: int = 0
    duration_s: float = 0.0
    gaps_s: dict[str, float] = field(default_factory=dict)
    before: dict[str, Usage] = field(default_factory=dict)
    after: dict[str, Usage] = field(default_factory=dict)
    log_bytes: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """For people."""
        rate_hz = self.input_count / self.duration_s if self.duration_s else 0.0
        gaps = ", ".join(f"{name} {gap_s:.2f} s" for name, gap_s in self.gaps_s.items())
        what = f"{self.door}: {self.input_count} inputs in {self.duration_s:.0f} s ({rate_hz:.0f}/s)"
        lines = [f"{what}, logs +{self.log_bytes} bytes, longest gap: {gaps or 'none'}"]
        for name, then in self.before.items():
            now = self.after.get(name)
            if now:
                lines.append(
                    f"  {name}: {then.resident_bytes / 1e6:.1f} -> {now.resident_bytes / 1e6:.1f} MB, "
                    f"{then.file_count} -> {now.file_count} files"
                )
        return "\n".join([*lines, *(f"  VIOLATION {each}" for each in self.violations)])


def drive(door: Door, scene: Scene, order: Order) -> Figures:
    """Send inputs until the order is done or something is wrong."""
    figures = Figures(door.name, order)
    with ExitStack() as stack:
        neighbours = [stack.enter_context(scene.neighbour(name)) for name in door.neighbours]
        stack.callback(door.close)
        door.open(scene)
        _measure(door, scene, order, neighbours, figures)
    if not figures.violations:
        figures.violations += scene.judge()
    return figures


def _measure(door: Door, scene: Scene, order: Order, neighbours: list[Neighbour], figures: Figures) -> None:
    pids = scene.pids()
    born = {name: kernel.start_time(pid) for name, pid in pids.items()}
    for pid in pids.values():
        resource.prlimit(pid, resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    figures.before = _usages(pids)
    log_bytes, start_s = scene.log_bytes(), time.monotonic()
    source = inputs(door, order.seed, order.first)
    size = order.batch_count or door.batch_count
    while not figures.violations and figures.input_count < order.count:
        if time.monotonic() - start_s > order.longest_s:
            break
        batch = list(itertools.islice(source, min(size, order.count - figures.input_count)))
        counts = [each.call_count for each in neighbours]
        wrong = _try(door, batch)
        wrong += [f"{name} died" for name, pid in pids.items() if kernel.start_time(pid) != born[name]]
        if not wrong:
            wrong += [
                f"{each.name} was not served for {STALL_S:.0f} s{_said(each)}"
                for each, count in zip(neighbours, counts, strict=True)
                if not each.wait_for_call(count, STALL_S)
            ]
        if wrong:
            place = f"after inputs {order.first + figures.input_count} to "
            place += f"{order.first + figures.input_count + len(batch) - 1} of seed {order.seed}"
            figures.violations += [f"{each} {place}" for each in wrong]
        figures.input_count += len(batch)
    figures.duration_s = time.monotonic() - start_s
    figures.gaps_s = {each.name: each.gap_s for each in neighbours}
    door.close()
    if not figures.violations:
        figures.violations += [
            f"{each.name} failed: {each.failures[:3]}" for each in neighbours if each.failures
        ]
    _judge_growth(pids, figures)
    figures.log_bytes = scene.log_bytes() - log_bytes
    allowed = LOG_SLACK_BYTES + door.log_bytes_each * figures.input_count
    if not figures.violations and figures.log_bytes > allowed:
        figures.violations.append(f"logs grew by {figures.log_bytes} bytes, {allowed} are allowed")


def _try(door: Door, batch: list[object]) -> list[str]:
    """Send; what is wrong if the service is not there any more."""
    try:
        door.send(batch)
    except OSError as exc:
        return [f"could not send: {type(exc).__name__}: {exc}"]
    return []


def _said(neighbour: Neighbour) -> str:
    return f" ({neighbour.failures[-1]})" if neighbour.failures else ""


def _usages(pids: dict[str, int]) -> dict[str, Usage]:
    found = {name: kernel.usage(pid) for name, pid in pids.items()}
    return {name: usage for name, usage in found.items() if usage}


def _judge_growth(pids: dict[str, int], figures: Figures) -> None:
    """Wait until descriptors are closed that were for the inputs, then compare."""
    end_s = time.monotonic() + SETTLE_S
    while True:
        figures.after = _usages(pids)
        files = [
            f"{name} has {now.file_count} files open, {figures.before[name].file_count} before"
            for name, now in figures.after.items()
            if now.file_count > figures.before[name].file_count + FILE_SLACK.get(name, USUAL_FILE_SLACK)
        ]
        if figures.violations or not files or time.monotonic() > end_s:
            break
        time.sleep(0.1)
    if figures.violations:
        return
    figures.violations += files
    figures.violations += [
        f"{name} grew by {(now.resident_bytes - figures.before[name].resident_bytes) >> 20} MiB"
        for name, now in figures.after.items()
        if now.resident_bytes - figures.before[name].resident_bytes > GROWTH_BYTES
    ]
