"""The door to the broker's state: calls, timers and readers all enter through it, and a bug of ours shuts it.

An exception in the middle of a list of actions leaves the state half changed. The door then stays shut:
nothing goes on with such a state, and the process ends so that the next broker starts from what drivers and
agents tell it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from quakegrid import errors

log = logging.getLogger("quakegrid.broker")
# What is raised for the caller, before anything was changed.
REFUSALS = (
    errors.StateError,
    errors.UsageError,
    errors.NotFoundError,
    errors.PeerError,
    errors.PeerUnreachableError,
)


class BrokerFailedError(errors.QuakeGridError):
    """The broker came upon a bug of its own and is about to end."""

    reason = "BROKER_FAILED"


class Door:
    """A context manager around whatever reads or changes the broker's state; it may be entered in itself.

    Raises:
        BrokerFailedError: it is shut, or what was done inside has failed and has shut it.
    """

    def __init__(self) -> None:
        # Whoever runs the broker waits for this, and ends the process.
        self.failed = asyncio.Event()

    def __enter__(self) -> None:
        if self.failed.is_set():
            raise BrokerFailedError("the broker has failed and starts again")

    def __exit__(
        self, _kind: type[BaseException] | None, exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not isinstance(exc, Exception) or isinstance(exc, (*REFUSALS, BrokerFailedError)):
            return
        log.error("broker_failed", exc_info=exc)
        self.failed.set()
        raise BrokerFailedError("the broker has failed and starts again") from exc


class _HasDoor(Protocol):
    _door: Door


S = TypeVar("S", bound=_HasDoor)
P = ParamSpec("P")
R = TypeVar("R")


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let a method of an object be entered through its `_door` only."""

    @functools.wraps(method)
    def enter(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._door:
            return method(self, *args, **kwargs)

    return enter
