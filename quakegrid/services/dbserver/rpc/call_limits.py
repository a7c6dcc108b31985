"""The limits of reads for a caller: it may leave, and its response is in the memory until it is sent."""

from __future__ import annotations

from typing import Any

from quakegrid.services.dbserver.store.read_limits import DEFAULT_TIMEOUT_S, MAX_TABLE_BYTES, ReadLimits


def of_call(context: Any, timeout_s: float = DEFAULT_TIMEOUT_S) -> ReadLimits:
    """The limits of all reads of a call that a thread answers.

    Args:
        context: an `UnaryCall`. What a caller that has left no longer needs keeps no thread from others.
        timeout_s: for all of them together.
    """
    return ReadLimits(
        timeout_s, MAX_TABLE_BYTES, is_cancelled=lambda: not context.is_active(), place=context.place
    )
