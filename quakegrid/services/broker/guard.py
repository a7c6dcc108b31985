"""The guard of the broker's state: a bug in the middle of a change ends the broker.

Calls, timers and readers all enter through the guard. An exception in the middle of a list of actions leaves
the state half changed. From then on the guard lets nobody in, and the process ends, so that the next broker
starts from what drivers and agents tell it.
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


class StateGuard:
    """A context manager around whatever reads or changes the broker's state; it may be entered in itself.

    Raises:
        BrokerFailedError: the broker has failed before, or a bug inside has ended it now.
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


class _HasGuard(Protocol):
    _guard: StateGuard


S = TypeVar("S", bound=_HasGuard)
P = ParamSpec("P")
R = TypeVar("R")


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let a method of an object be entered through its `_guard` only."""

    @functools.wraps(method)
    def enter(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._guard:
            return method(self, *args, **kwargs)

    return enter
