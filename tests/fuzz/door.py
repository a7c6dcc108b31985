"""What a door is: a place where a service takes what others send, and how to try it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar


class Door(ABC):
    """A place where bad input may come in. `make` decides, `send` acts.

    Attributes:
        name: for people and for replays.
        scene: the name of the scene that it is part of.
        neighbours: names of the well-behaved peers that are served meanwhile.
        log_bytes_each: what an input may add to all logs, on average.
        batch_count: inputs in a batch.
        test_count: inputs in `make test`.
    """

    name: ClassVar[str]
    scene: ClassVar[str] = "cluster"
    neighbours: ClassVar[tuple[str, ...]]
    log_bytes_each: ClassVar[int] = 0
    batch_count: ClassVar[int] = 50
    test_count: ClassVar[int] = 500

    @abstractmethod
    def make(self, chance: random.Random) -> Any:
        """One input: a pure function of what decides."""

    def open(self, scene: Any) -> None:
        """Get ready to send to the services of a scene."""
        del scene

    @abstractmethod
    def send(self, batch: Sequence[Any]) -> None:
        """Send inputs, and wait until the service has taken or refused them."""

    def close(self) -> None:
        """Close every connection."""
        return


def inputs(door: Door, seed: int, first: int = 0) -> Iterator[Any]:
    """The inputs of a seed, from some number on; each depends on seed, door and its number only."""
    number = first
    while True:
        yield door.make(random.Random(f"{seed} {door.name} {number}"))
        number += 1
