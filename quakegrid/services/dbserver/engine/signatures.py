"""Lets actions with many arguments be functions of one value, though callers pass upstream's arguments.

Does not depend on the actions.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from quakegrid.services.dbserver.store.database import SqlSession

A = TypeVar("A")
T = TypeVar("T")


def takes(arguments: type[A]) -> Callable[[Callable[[SqlSession, A], T]], Callable[..., T]]:
    """Let a function of a session and one value be called with the value's fields, in their order.

    Args:
        arguments: class of the value; its fields have upstream's names, order and defaults.
    Returns:
        A decorator. The signature of what it returns is upstream's, behind the session.
    """

    def decorate(action: Callable[[SqlSession, A], T]) -> Callable[..., T]:
        @functools.wraps(action)
        def run(session: SqlSession, *args: Any) -> T:
            return action(session, arguments(*args))

        session, _ = inspect.signature(action).parameters.values()
        own = inspect.signature(arguments).parameters.values()
        run.__signature__ = inspect.Signature([session, *own])  # type: ignore[attr-defined]
        return run

    return decorate
