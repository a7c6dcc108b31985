"""What a submission is known by: function, arguments and shared arrays, without the times in them."""

from __future__ import annotations

import pickle
import random
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xxhash
from openquake.baselib import parallel, performance

from quakegrid.engine.tasks.shared_arrays import SharedArray

# Their pickles have addresses of memory.
_LEFT_OUT = frozenset({"KDTree", "cKDTree"})
# From here on the hash of an argument that many tasks have is kept.
_KEPT_BYTES = 64 << 10
# Of a `Monitor`, beside those that a worker sets anew.
_TIMES = ("_start_time", "_stop_time", "duration", "_mem")
SEED = 20260101


def settle_process() -> None:
    """Let equal work have equal pickles in this process, which is a driver and stays one.

    Contexts of ground motion models hold monitors, whose times would differ; distributions of scipy hold
    numpy's global state of random numbers. Workers make new monitors, and the engine seeds what it draws.
    """
    performance.Monitor.__getstate__ = _state_without_times


def settle_random_state() -> None:
    """Begin a calculation with the same global states of random numbers as any other."""
    np.random.seed(SEED)  # noqa: NPY002 - the global one is meant
    random.seed(SEED)


def _state_without_times(monitor: Any) -> dict[str, Any]:
    return dict(vars(monitor)) | {name: 0 for name in _TIMES if name in vars(monitor)}


class SubmissionDigests:
    """Makes the digests of one job's submissions."""

    def __init__(self) -> None:
        self._of_large: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        self._shared: Any = None
        self._of_shared = b""

    def of(self, func: Callable[..., Any], args: Sequence[Any], task_no: int, monitor: Any) -> bytes:
        """The digest of a submission.

        Args:
            func: of the engine.
            args: its arguments, pickled by upstream.
            task_no: number in its Starmap.
            monitor: of the Starmap.
        """
        state = xxhash.xxh3_128(f"{func.__module__}:{func.__qualname__}:{task_no}".encode())
        for arg in args:
            if not isinstance(arg, parallel.Pickled):
                state.update(pickle.dumps(arg, pickle.HIGHEST_PROTOCOL))
            elif arg.clsname in _LEFT_OUT:
                state.update(arg.clsname.encode())
            elif len(arg.pik) >= _KEPT_BYTES:
                state.update(self._large(arg))
            else:
                state.update(len(arg.pik).to_bytes(8, "little"))
                state.update(arg.pik)
        shared = getattr(monitor, "shared", None)
        if shared:
            state.update(self._of_arrays(shared))
        return state.digest()

    def _large(self, arg: Any) -> bytes:
        found = self._of_large.get(arg)
        if found is None:
            found = self._of_large[arg] = xxhash.xxh3_128_digest(arg.pik)
        return found

    def _of_arrays(self, shared: dict[str, Any]) -> bytes:
        if shared is not self._shared:
            state = xxhash.xxh3_128()
            for name, each in sorted(shared.items()):
                if isinstance(each, SharedArray):
                    with each as array:
                        state.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
                        state.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1))
            self._shared, self._of_shared = shared, state.digest()
        return self._of_shared
