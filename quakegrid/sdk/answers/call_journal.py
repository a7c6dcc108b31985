"""The journal of an executor: answers calls that were answered before, and keeps the results of others.

Equal calls are one call: while one of them is under way the others wait for its result. Exceptions are not
kept.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from quakegrid.sdk import futures, pickles
from quakegrid.sdk.answers import keys, versions
from quakegrid.sdk.answers.answers import CallAnswers
from quakegrid.sdk.answers.keys import CallKeys
from quakegrid.sdk.futures import CallFuture
from quakegrid.sdk.pickles import Buffer

log = logging.getLogger("quakegrid.sdk")
Call = CallFuture[Any]
# Functions whose calls cannot be kept: so many are told.
_MANY_FUNCTIONS = 100


class CallJournal:
    """Any thread may ask it; the executor's thread gives it results.

    Args:
        answers: of before.
        name: of the journal.
    """

    def __init__(self, answers: CallAnswers, name: str) -> None:
        self._answers, self._name = answers, name
        self.forget, self.close = answers.forget, answers.close
        self._keys = CallKeys(versions.version_of, versions.source_of)
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Call] = {}
        self._told: set[str] = set()

    def key_of(self, call: Call) -> bytes:
        """The key of a call that is not done; empty if it cannot be told, which a warning says."""
        assert call.function is not None, "it is not done"
        try:
            return self._keys.of(call.function, call.args, call.kwargs or {})
        except Exception as exc:  # noqa: BLE001 - whatever an object's own methods raise
            self._tell(getattr(call.function, "__qualname__", type(call.function).__qualname__), exc)
            return b""

    def answer(self, call: Call) -> bool:
        """Finish a call that was answered before; returns whether it was."""
        frames = self._answers.find(call.key)
        if frames is None:
            return False
        try:
            value = pickles.load(bytes(frames[0]), [memoryview(bytearray(frame)) for frame in frames[1:]])
        except Exception:  # noqa: BLE001 - its class is another one, or gone
            return False
        futures.finish(call, value, None)
        return True

    def submit(self, call: Call, send: Callable[[Call], None]) -> bool:
        """Answer a call, or see to it that it gets a result; returns whether it was answered.

        Args:
            call: new.
            send: sends it. It is not sent if an equal one is under way, whose result it gets.
        """
        call.key = self.key_of(call)
        if not call.key:
            send(call)
            return False
        if self.answer(call):
            return True
        self._begin(call, send)
        return False

    def _begin(self, call: Call, send: Callable[[Call], None]) -> None:
        with self._lock:
            first = self._under_way.get(call.key)
            if first is None or first.cancelled():
                first, self._under_way[call.key] = None, call
        if first is not None:
            same = first
            same.add_done_callback(lambda _done: self._follow(same, call, send))
            return
        call.add_done_callback(self._end)  # not under the lock: for a call that is done it runs at once
        if not self.answer(call):  # else it was answered just now
            try:
                send(call)
            except BaseException as exc:  # those that wait for it must not wait for ever
                futures.finish(call, None, exc)
                raise

    def keep(self, call: Call, data: Any, buffers: Sequence[Buffer]) -> None:
        """Keep the result of a call, unless its arguments have changed since it was submitted.

        Args:
            call: not done yet.
            data: of the result, as `chunks.Results` has it.
            buffers: that belong to it; they are copied, as the program may write into its result.
        """
        if not call.key or (keys.may_change(call.args, call.kwargs or {}) and self.key_of(call) != call.key):
            return
        pickled = data if type(data) is bytes else pickle.dumps(data, 5)
        self._answers.put(call.key, [pickled, *map(bytes, buffers)])

    def _end(self, call: Future[Any]) -> None:
        assert isinstance(call, CallFuture)
        with self._lock:
            if self._under_way.get(call.key) is call:  # not one that has taken its place
                del self._under_way[call.key]

    def _follow(self, first: Call, call: Call, send: Callable[[Call], None]) -> None:
        """Finish a call as the equal one that came first, or take its place if that was cancelled."""
        if first.cancelled():
            if not call.cancelled():
                self._begin(call, send)
        elif call.begin():
            exception = first.exception()
            if exception is not None:
                futures.finish(call, None, exception)
            elif not self.answer(call):  # a copy of its own, if the result was kept
                futures.finish(call, first.result(), None)

    def _tell(self, function: str, exc: Exception) -> None:
        if function not in self._told and len(self._told) < _MANY_FUNCTIONS:
            self._told.add(function)
            log.warning("calls_not_kept journal=%s function=%s reason=%s", self._name, function, exc)
