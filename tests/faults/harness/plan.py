"""Which faults happen when: a pure function of a seed.

Knows kinds of victims and nodes by number; refuses to know processes, sockets and clocks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.support.namespace_cluster import MASTER

# How often, of all faults, a second one comes with the first.
PAIR_SHARE = 0.15


class Kind(StrEnum):
    """What is done."""

    KILL = "kill"
    STOP = "stop"
    FREEZE = "freeze"
    CUT = "cut"
    SLOW = "slow"
    FILL = "fill"
    # Stopped, and never continued by us.
    SUSPEND = "stop for good"
    RESTART = "restart"
    # A link that is cut just before a session ends, or its job is aborted.
    CUT_END = "cut at the end of"
    CUT_ABORT = "cut at the abort of"


class Victim(StrEnum):
    """To whom: a process, the link of a node, or the master's disk."""

    WORKER = "worker"
    AGENT = "agent"
    LANE = "lane"
    BROKER = "broker"
    DBSERVER = "dbserver"
    DRIVER = "driver"
    COMMAND_LINE = "command line"
    NODE = "node"
    LINK = "link"
    DISK = "disk"
    TEMPLATE = "template"
    SESSION = "session"


class Way(StrEnum):
    """Which way a link is cut, as its node sees it."""

    BOTH = "both"
    OUT = "out"
    IN = "in"


CUTS = (Kind.CUT, Kind.CUT_END, Kind.CUT_ABORT)
# What nobody mends: a process is gone, or the agent has to notice.
FOR_GOOD = (Kind.KILL, Kind.SUSPEND, Kind.RESTART)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        at_s: when, since the start.
        kind: what is done.
        victim: to whom.
        node: where; -1 for any node.
        duration_s: how long it lasts; 0 for what is not mended.
        way: of a cut.
        pick: which one of several, 0 <= pick < 1.
    """

    at_s: float
    kind: Kind
    victim: Victim
    node: int = -1
    duration_s: float = 0.0
    way: Way = Way.BOTH
    pick: float = 0.0

    def __str__(self) -> str:
        """For people."""
        where = f" of node {self.node}" if self.node >= 0 else ""
        way = f" ({self.way})" if self.kind in CUTS else ""
        lasting = f" for {self.duration_s:g} s" if self.duration_s else ""
        return f"{self.at_s:6.1f} s  {self.kind} {self.victim}{where}{way}{lasting}"


@dataclass(frozen=True, slots=True)
class Scale:
    """How hard it gets.

    Args:
        duration_s: of the whole run.
        gap_s: between faults, on average; infinity for none.
        node_count: nodes beside the master, >= 1.
        short_s: how long stops and cuts of any node last, to choose from.
        long_s: the same of the last node, which no driver runs on; it may be lost.
        end_s: how long links are cut around the ends of sessions.
        with_disk: whether the master's disk is filled.
    """

    duration_s: float
    gap_s: float
    node_count: int = 3
    short_s: tuple[float, ...] = (1.0, 3.0, 10.0)
    long_s: tuple[float, ...] = (10.0, 30.0, 60.0)
    end_s: tuple[float, ...] = (5.0, 10.0, 15.0)
    with_disk: bool = True


# What may happen, and how often of the sum of these.
_KILLS = {
    Victim.WORKER: 6,
    Victim.AGENT: 2,
    Victim.TEMPLATE: 2,
    Victim.LANE: 3,
    Victim.BROKER: 3,
    Victim.DBSERVER: 2,
    Victim.DRIVER: 3,
    Victim.COMMAND_LINE: 1,
    Victim.NODE: 1,  # all its processes at once, as when it loses power
}
_STOPS = {
    Victim.WORKER: 2,
    Victim.AGENT: 1,
    Victim.LANE: 1,
    Victim.BROKER: 1,
    Victim.DBSERVER: 1,
    Victim.DRIVER: 1,
    Victim.COMMAND_LINE: 1,
}
_OTHERS = {
    (Kind.CUT, Victim.LINK): 5,
    (Kind.SLOW, Victim.LINK): 2,
    (Kind.FREEZE, Victim.NODE): 2,
    (Kind.FILL, Victim.DISK): 1,
    (Kind.SUSPEND, Victim.WORKER): 2,
    (Kind.RESTART, Victim.TEMPLATE): 1,
    (Kind.CUT_END, Victim.SESSION): 2,
    (Kind.CUT_ABORT, Victim.SESSION): 2,
}
# Of the master, too, where calculations have their drivers: these go on by themselves.
_OF_ANY_NODE = {Victim.AGENT, Victim.TEMPLATE, Victim.NODE}


def make_plan(seed: int, scale: Scale) -> tuple[Fault, ...]:
    """The faults of a run, in order: the same for the same arguments, on any machine."""
    return tuple(_faults(random.Random(seed), scale))


def _faults(chance: random.Random, scale: Scale) -> Iterator[Fault]:
    weights = _weights(scale)
    at_s = 0.0
    while scale.gap_s < math.inf:
        at_s += chance.expovariate(1 / scale.gap_s)
        if at_s >= scale.duration_s:
            return
        for _ in range(1 + (chance.random() < PAIR_SHARE)):
            (choice,) = chance.choices(list(weights), list(weights.values()))
            yield _fault(chance, scale, round(at_s, 2), *choice)


def _weights(scale: Scale) -> dict[tuple[Kind, Victim], int]:
    kills = {(Kind.KILL, victim): weight for victim, weight in _KILLS.items()}
    stops = {(Kind.STOP, victim): weight for victim, weight in _STOPS.items()}
    weights = kills | stops | _OTHERS
    if not scale.with_disk:
        del weights[Kind.FILL, Victim.DISK]
    return weights


def _fault(chance: random.Random, scale: Scale, at_s: float, kind: Kind, victim: Victim) -> Fault:
    node = chance.randint(1, scale.node_count) if kind in (Kind.CUT, Kind.SLOW, Kind.FREEZE) else -1
    if victim in _OF_ANY_NODE and kind is not Kind.FREEZE:
        node = chance.randint(MASTER, scale.node_count)
    way = chance.choice(tuple(Way)) if kind in CUTS else Way.BOTH
    duration_s = 0.0 if kind in FOR_GOOD else chance.choice(_durations_s(scale, kind, node))
    return Fault(at_s, kind, victim, node, duration_s, way, chance.random())


def _durations_s(scale: Scale, kind: Kind, node: int) -> tuple[float, ...]:
    if kind in (Kind.CUT_END, Kind.CUT_ABORT):
        return scale.end_s
    return scale.short_s + (scale.long_s if node == scale.node_count else ())
