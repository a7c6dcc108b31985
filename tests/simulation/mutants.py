"""Bugs put in on purpose: the simulation has to find each of them within some seeds.

All but a few were real: readings of the code, `make chaos` or the simulation itself found them. A mutant
replaces a piece of a method's source in memory. One whose piece is no longer there fails loudly: the code has
moved on, and the mutant has to follow it.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import multiprocessing
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation import runs

SERVICES = "quakegrid.services"


class MutantGoneError(AssertionError):
    """The code that a mutant changes is not there any more."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of a function that is replaced.

    Args:
        where: module and name, such as `package.module:Class.method`.
        old: what must be there exactly once.
        new: what takes its place.
    """

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug.

    Args:
        name: of it.
        words: what it breaks, and how it was found.
        edits: that make it.
    """

    name: str
    words: str
    edits: Sequence[Edit]


@dataclass(frozen=True, slots=True)
class Hunt:
    """How the search for a mutant went; `seed_count` seeds were run, the last of them found it."""

    mutant: str
    is_found: bool
    seed_count: int
    violation: str


MUTANTS: Sequence[Mutant] = (
    Mutant(
        "stop-order-given-once",
        "an order to stop workers that is lost is never given again (a reading of the broker)",
        [
            Edit(
                f"{SERVICES}.broker.fleet.leftovers:Leftovers._is_due",
                "return told_s[worker_id] + STOP_AGAIN_S <= self._now_s",
                "return False",
            )
        ],
    ),
    Mutant(
        "outcome-crosses-the-driver",
        "an outcome between a lane's hello and its driver's join is not held back (a reading of the lane)",
        [Edit(f"{SERVICES}.lane.mail:SessionMail.hold", "self._is_held = True", "pass")],
    ),
    Mutant(
        "driver-tells-twice",
        "a driver that is admitted anew tells a lane again that refused nothing (1 of 5 broker kills)",
        [
            Edit(
                "quakegrid.session.lane_client:LaneClient.receive_ready",
                "if self._retelling.due_s < math.inf and self._retelling.is_due(",
                "if self._stream.admission_count != self._retelling._admission_count"
                " or self._retelling.is_due(",
            )
        ],
    ),
    Mutant(
        "refused-task-forgotten",
        "a lane confirms the join behind a task that it refused, which is lost (a test that hung)",
        [
            Edit(
                f"{SERVICES}.lane.joining:Joining.join",
                "if self._refused.pop(session_id, None) is not None:",
                "if False:",
            ),
        ],
    ),
    Mutant(
        "lane-does-not-settle",
        "a lane that stands in for one that died hands out what workers still run (1 of 14 broker kills)",
        [
            Edit(
                f"{SERVICES}.lane.joining:Joining.end_settling",
                "now_s >= end_s or session.has_all_workers",
                "True",
            )
        ],
    ),
    Mutant(
        "lost-nodes-are-blamed",
        "nodes that vanish count as attempts of the tasks that they ran (a reading of the fleet core)",
        [
            Edit(
                f"{SERVICES}.broker.fleet.nodes:FleetNodes._lose",
                "is_blameless=True",
                "is_blameless=False",
            )
        ],
    ),
    Mutant(
        "request-done-twice",
        "a request to the dbserver that is sent again is done again",
        [
            Edit(
                f"{SERVICES}.dbserver.store.idempotence:_once",
                "result = work(session)\n",
                "result = work(session)\n        return Answer(result, is_repeated=False)\n",
            )
        ],
    ),
    Mutant(
        "stopped-dbserver-ends-jobs",
        "a dbserver that stood still fails the jobs of drivers that could not renew their holds",
        [
            Edit(
                f"{SERVICES}.dbserver.jobs.holds:HoldDeadlines.is_late",
                "return now_s - self._beat_s > LATE_BEAT_S",
                "return False",
            )
        ],
    ),
    Mutant(
        "unanswered-start-forgotten",
        "a worker whose start was not answered is forgotten, and its end told to nobody (this simulation)",
        [
            Edit(
                f"{SERVICES}.broker.worker_orders:WorkerOrders._start",
                "self._loop.handle(core.WorkersUnsure(worker_ids))",
                "self._loop.handle(core.WorkersRefused(worker_ids))",
            )
        ],
    ),
    Mutant(
        "session-beyond-its-limit",
        "workers that come back with their node stay beyond what their session may have (this simulation)",
        [
            Edit(
                f"{SERVICES}.broker.fleet.placing.placement:Placement.place",
                "actions += self._drain(list(limits.beyond(sessions, self._workers)))",
                "",
            )
        ],
    ),
    Mutant(
        "late-refusal-counts",
        "a driver tells its lane all again after a refusal of what it told before (this simulation)",
        [
            Edit(
                "quakegrid.session.retelling:Retelling.end",
                "self.due_s = self._give_up_s = math.inf",
                "self._give_up_s = math.inf",
            )
        ],
    ),
    Mutant(
        "drained-worker-leaves-early",
        "a drained worker ends before its lane has its outcome, which is computed again",
        [
            Edit(
                f"{SERVICES}.agent.worker.holdings:Holdings.is_over",
                "return self._is_stopping and not (self._is_drained and self._sent)",
                "return self._is_stopping",
            )
        ],
    ),
    Mutant(
        "worker-gives-up-at-once",
        "a worker whose lane does not know its session yet ends, with its task (kills of the broker)",
        [
            Edit(
                f"{SERVICES}.agent.worker.holdings:_Patience.refuse",
                "if not refused.is_unknown_session or now_s >= self._first_s + REFUSED_PATIENCE_S:",
                "if True:",
            )
        ],
    ),
    Mutant(
        "hanging-driver-lives-on",
        "a driver that hangs at an abort is not killed if the order to its agent is lost",
        [
            Edit(
                f"{SERVICES}.broker.drivers.stops:DriverStops.report", "self._order(link, pid, stop)", "pass"
            ),
            Edit(
                f"{SERVICES}.broker.drivers.stops:DriverStops.pass_second",
                "self._order(link, pid, stop)",
                "pass",
            ),
        ],
    ),
)


def changed(edit: Edit) -> tuple[Any, str, Any, Any]:
    """What an edit changes: owner, name, what is there, and what takes its place.

    Raises:
        MutantGoneError: the piece is not there exactly once.
    """
    module_name, _, path = edit.where.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part, None)
    before = inspect.getattr_static(owner, name, None)
    if before is None:
        raise MutantGoneError(f"{edit.where} is not there any more")
    function = before.fget if isinstance(before, property) else inspect.unwrap(before)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(edit.old) != 1:
        raise MutantGoneError(f"{edit.where} has {source.count(edit.old)} times {edit.old!r}")
    flags = __future__.annotations.compiler_flag
    code = compile(source.replace(edit.old, edit.new), f"<{edit.where}, a mutant>", "exec", flags)
    space: dict[str, Any] = {}
    exec(code, module.__dict__, space)
    return owner, name, before, space[name]


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Let the code have a bug."""
    changes = [changed(edit) for edit in mutant.edits]
    for owner, name, _, after in changes:
        setattr(owner, name, after)
    try:
        yield
    finally:
        for owner, name, before, _ in changes:
            setattr(owner, name, before)


def hunt(name: str, seed_count: int) -> Hunt:
    """Run seeds until one finds the mutant."""
    mutant = next(each for each in MUTANTS if each.name == name)
    with applied(mutant):
        for seed in range(1, seed_count + 1):
            violation = runs.run_seed(seed).violation
            if violation:
                return Hunt(name, True, seed, violation)
    return Hunt(name, False, seed_count, "")


def _hunt(args: tuple[str, int]) -> Hunt:
    return hunt(*args)


def hunt_all(seed_count: int, process_count: int, names: Sequence[str] = ()) -> Iterator[Hunt]:
    """Hunt mutants side by side; all if none are named."""
    wanted = [(each.name, seed_count) for each in MUTANTS if not names or each.name in names]
    context: Any = multiprocessing.get_context("spawn")
    with context.Pool(process_count) as pool:
        yield from pool.imap(_hunt, wanted)
