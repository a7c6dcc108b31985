"""Bugs that are put in on purpose, most of them real ones; `mutants.py` puts them in. Values only.

Whoever mends a bug that a reading, `make chaos` or the simulation found adds it here, if the code that it was
in is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.fabric.faults import FaultKind

SERVICES = "quakegrid.services"
# What makes a driver or a worker come to a lane that does not know its session.
NEW_BROKER = frozenset({FaultKind.BROKER_CRASH})
NEW_LANE = frozenset({FaultKind.BROKER_CRASH, FaultKind.LANE_CRASH})


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
        needs: faults; seeds that bring none of them cannot find it, and are not run. Empty if all may.
    """

    name: str
    words: str
    edits: Sequence[Edit]
    needs: frozenset[FaultKind] = frozenset()


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
                "if self._due_s < math.inf and self._retelling.is_due(",
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
                f"{SERVICES}.lane.drivers.joining:Joining.join",
                "self._refused.pop(session_id, None) is not None",
                "False",
            ),
        ],
        NEW_BROKER,
    ),
    Mutant(
        "lane-does-not-settle",
        "a lane that stands in for one that died hands out what workers still run (1 of 14 broker kills)",
        [
            Edit(
                f"{SERVICES}.lane.drivers.joining:Joining.end_settling",
                "now_s >= end_s or session.has_all_workers",
                "True",
            )
        ],
        NEW_LANE,
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
        frozenset({FaultKind.STOPPED}),
    ),
    Mutant(
        "unanswered-start-forgotten",
        "a worker whose start was not answered is forgotten, and its end told to nobody (this simulation)",
        [
            Edit(
                f"{SERVICES}.broker.worker_orders:WorkerOrders._start",
                "self._loop.handle(core.WorkersUnsure(worker_ids))",
                "self._loop.handle(core.WorkersRefused(worker_ids))",
            ),
            Edit(  # else the lane's word on who is busy shows it after a time
                f"{SERVICES}.broker.fleet.core:Fleet._on_second_passed",
                "deaths.lose_strangers(session, self.workers)",
                "[lost for lost in deaths.lose_strangers(session, self.workers)"
                " if not lost.end.worker_id.startswith(self.run_name)]",
            ),
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
                "quakegrid.session.retelling:Retelling.refuse",
                "if is_unknown_session and self._awaits_answer and not is_join:",
                "if False:",
            ),
            Edit(
                "quakegrid.session.retelling:Retelling.end",
                "self.due_s = self._give_up_s = math.inf",
                "self._give_up_s = math.inf",
            ),
        ],
        NEW_BROKER,
    ),
    Mutant(
        "stopped-worker-is-blamed",
        "a worker that the broker itself has stopped counts as an attempt of its task (this simulation)",
        [Edit(f"{SERVICES}.agent.node.workers:asked_to_end", "is_blameless=True", "is_blameless=False")],
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
        NEW_LANE,
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
    Mutant(
        "unanswered-order-ends-the-link",
        "a node whose agent leaves an order unanswered is never reached again (a reading of the broker)",
        [
            Edit(
                f"{SERVICES}.broker.nodes.link:NodeLink._watch",
                "if task is None or task.cancelling():",
                "if True:",
            )
        ],
    ),
    Mutant(
        "earlier-hello-counts",
        "a lane takes a join that answers an earlier hello than its last one (this simulation)",
        [
            Edit(
                f"{SERVICES}.lane.drivers.greetings:Greetings.judge",
                "if hello_number != greeting.number:",
                "if False:",
            )
        ],
    ),
    Mutant(
        "torn-telling-counts",
        "a lane takes a join though a part of what the driver told was lost (this simulation)",
        [
            Edit(
                f"{SERVICES}.lane.drivers.greetings:Greetings.judge",
                "message_count == count",
                "True",
            )
        ],
    ),
    Mutant(
        "task-crosses-the-word",
        "a lane gives a worker a task between hello and its word on what it has (this simulation)",
        [
            Edit(
                f"{SERVICES}.lane.performer:Performer.greet",
                "if isinstance(who, WorkerName):",
                "if False:",
            )
        ],
    ),
    Mutant(
        "begun-before-it-was-held",
        "a calculation begins although its job is not held yet, so nobody ends the job (this simulation)",
        [
            Edit(  # the driver's wait for its first hold is played
                "tests.simulation.parts.drivers:SimulatedDriver._renew",
                "if is_first and not (reason or is_late):",
                "if is_first and not reason and self.rules is None:",
            )
        ],
        NEW_BROKER | {FaultKind.BLACKOUT},
    ),
    Mutant(
        "strange-worker-awaited",
        "a worker that a new broker's lane has and no agent tells of is never lost (this simulation)",
        [
            Edit(
                f"{SERVICES}.broker.fleet.deaths:lose_strangers",
                "if seconds % STRANGE_S == 0",
                "if False",
            )
        ],
        NEW_BROKER,
    ),
)
