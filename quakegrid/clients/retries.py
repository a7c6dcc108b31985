"""Sending calls again: only what the service cannot have refused, not for ever, and with the same id."""

from __future__ import annotations

import os
import random
import time

import grpc

from quakegrid.transport import grpc_channels

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
# RESOURCE_EXHAUSTED is a full disk: nothing was written. gRPC means messages that are too large by it, too.
_TRANSIENT = frozenset({*grpc_channels.NO_ANSWER, grpc_channels.NOT_NOW, grpc.StatusCode.RESOURCE_EXHAUSTED})


def new_request_id() -> str:
    """An id that no other request has; ids made about the same time are stored side by side."""
    return f"{time.time_ns():016x}{os.urandom(8).hex()}"


def is_transient(exc: grpc.RpcError) -> bool:
    """Whether the same call may succeed later."""
    return exc.code() in _TRANSIENT and not grpc_channels.is_too_large(exc)


class Retries:
    """Pauses between the tries of one call, growing and with jitter, until the time is up."""

    def __init__(self, retry_s: float) -> None:
        self._end_s = time.monotonic() + retry_s
        self._pause_s = FIRST_PAUSE_S

    def may_go_on(self, exc: grpc.RpcError) -> bool:
        """Pause and say whether to try again."""
        pause_s = self._pause_s * random.uniform(0.5, 1.5)  # noqa: S311  jitter needs no secrecy
        if not is_transient(exc) or time.monotonic() + pause_s > self._end_s:
            return False
        time.sleep(pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True
