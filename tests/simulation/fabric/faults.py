"""Faults: what can go wrong, when it does by a seed, and a list of what did.

Each fault has a key, which is the same in each run of a seed. A run may be limited to some keys, so that a
list of faults can be made shorter while it still does harm.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class FaultKind(enum.Enum):
    """What can go wrong. A value says what it is, for the story of a run."""

    LOST = "a message is lost"
    LATE = "a message is late"
    REPEATED = "a call is made twice, as its answer was lost"
    OVERTAKEN = "a call is overtaken by a later one"
    BROKEN = "a connection breaks"
    CUT = "the link of a machine is cut both ways"
    CUT_IN = "a machine hears nothing, and is heard"
    CUT_OUT = "a machine is not heard, and hears"
    WORKER_CRASH = "a worker crashes"
    AGENT_CRASH = "an agent is killed, with all its children"
    NODE_CRASH = "a node loses its power"
    LANE_CRASH = "a lane is killed"
    BROKER_CRASH = "the broker is killed, with its lanes"
    DATABASE_CRASH = "the dbserver is killed"
    DRIVER_CRASH = "a driver is killed"
    BLACKOUT = "all machines lose their power"
    STOPPED = "a worker, a lane or the dbserver stands still for a while"
    AGENT_STOPPED = "an agent stands still for a while"
    CLOCK_JUMP = "a clock jumps"
    DISK_FULL = "a disk is full for a while"
    POISON = "a task kills its worker"


# In an order, so that a seed draws the same of them in each process.
MESSAGE_KINDS = (
    FaultKind.LOST,
    FaultKind.LATE,
    FaultKind.REPEATED,
    FaultKind.OVERTAKEN,
    FaultKind.BROKEN,
)


class FaultKey(NamedTuple):
    """Which fault: its kind, where it happens, and the how many-th thing it is that happens there."""

    kind: FaultKind
    where: str
    number: int


class Fault(NamedTuple):
    """A fault that happened."""

    at_s: float
    key: FaultKey
    words: str


@dataclass(slots=True)
class Faults:
    """The faults of one run.

    Args:
        seed: of the run.
        only: the only faults that may happen; None for all that the seed brings.
        until_s: none happens later.
    """

    seed: int
    only: frozenset[FaultKey] | None = None
    until_s: float = 0.0
    enabled: frozenset[FaultKind] = frozenset()
    happened: list[Fault] = field(default_factory=list)
    counts: Counter[FaultKind] = field(default_factory=Counter)
    message_rate: float = 0.0
    # When each kind hit what it hit: a machine, a process or a channel.
    _hits: dict[tuple[str, FaultKind], list[float]] = field(default_factory=dict)

    def may(self, key: FaultKey, now_s: float) -> bool:
        """Whether a fault that is drawn happens."""
        if now_s > self.until_s or key.kind not in self.enabled:
            return False
        return self.only is None or key in self.only

    def note(self, key: FaultKey, now_s: float, words: str, hit: str = "") -> None:
        """A fault happens now.

        Args:
            key: of it.
            now_s: the time.
            words: what happens, for people.
            hit: what it hits, if that is not where the key says.
        """
        self.counts[key.kind] += 1
        self._hits.setdefault((hit or key.where, key.kind), []).append(now_s)
        self.happened.append(Fault(now_s, key, words))

    def count(self, kind: FaultKind, number: int = 1) -> None:
        """Count what follows from a fault, such as the messages that are lost with a connection."""
        self.counts[kind] += number

    def has_hit(self, where: Iterable[str], kinds: Iterable[FaultKind], since_s: float = 0.0) -> bool:
        """Whether a fault of these kinds hit one of these, at an instant or later."""
        return any(
            at_s >= since_s for each in where for kind in kinds for at_s in self._hits.get((each, kind), ())
        )

    @property
    def total(self) -> int:
        """How many faults there were."""
        return self.counts.total()


# The kinds that befall single messages of a connection, and of a call.
_ON_WIRES: Sequence[tuple[float, FaultKind]] = ((0.02, FaultKind.BROKEN), (1.0, FaultKind.LATE))
_ON_CALLS: Sequence[tuple[float, FaultKind]] = (
    (0.3, FaultKind.LOST),
    (0.6, FaultKind.REPEATED),
    (1.0, FaultKind.LATE),
)


class Fate(NamedTuple):
    """What becomes of a message: how long it takes, and what befalls it."""

    delay_s: float
    kind: FaultKind | None = None


class Channel:
    """What befalls the messages between two parts, in their order.

    Args:
        faults: of the run.
        where: names the channel in keys and stories.
        is_call: for calls, which may get lost one by one; else for a connection, whose messages do not.
    """

    __slots__ = ("_faults", "_kinds", "_number", "_random", "where")

    def __init__(self, faults: Faults, where: str, *, is_call: bool = False) -> None:
        self._faults, self.where = faults, where
        self._random = random.Random(f"{faults.seed} {where}")
        self._kinds = _ON_CALLS if is_call else _ON_WIRES
        self._number = 0

    def next(self, now_s: float) -> Fate:
        """The fate of the next message."""
        faults, number = self._faults, self._number
        self._number = number + 1
        drawn = self._random.random()
        rate = faults.message_rate
        if drawn >= rate:
            return Fate(0.0002 + 0.003 * drawn)
        share, length = drawn / rate, self._random.random()
        kind = next(kind for most, kind in self._kinds if share < most)
        key = FaultKey(kind, self.where, number)
        if not faults.may(key, now_s):
            return Fate(0.0002 + 0.003 * length)
        # Most are a little late, and a few very much.
        delay_s = 0.004 + 2.0 * length**6
        late = f" by {delay_s:.2f} s" if kind is FaultKind.LATE else ""
        faults.note(key, now_s, f"{_WORDS[kind]}{late}: {self.where}, message {number + 1}")
        return Fate(delay_s if kind is FaultKind.LATE else 0.001, kind)


_WORDS = {
    FaultKind.LOST: "lost",
    FaultKind.LATE: "late",
    FaultKind.REPEATED: "the answer is lost, so that it is asked again",
    FaultKind.BROKEN: "the connection breaks",
}
