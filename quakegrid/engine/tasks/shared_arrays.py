"""Arrays that all tasks of a Starmap share: blobs in place of upstream's POSIX shared memory.

Upstream's belong to one machine. Here an array is a frame of the tasks that use it, so it travels once to
each node and is mapped there by all workers; nothing is left of it when a driver is killed.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from openquake.baselib import parallel

UpstreamArray: Any = parallel.SharedArray


class SharedArray:
    """Stands in for upstream's `SharedArray` in a driver; goes to workers by `to_travel` only.

    Args:
        array: not copied, and not to be changed while tasks use it.
    """

    @classmethod
    def new(cls, array: Any) -> Any:
        """Share an array; upstream's way where the tasks stay on this machine."""
        if parallel.oq_distribute() == "zmq":
            return cls(np.ascontiguousarray(array))
        return UpstreamArray.new(array)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __enter__(self) -> Any:
        return self._array

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        """Without its content: the monitors of results have it, too."""
        return ReceivedArray, (b"", "B", (0,))

    def unlink(self) -> None:
        """Nothing to do: it goes with its Starmap."""

    def to_travel(self) -> _TravellingArray:
        """The object that stands for the array in a task's payload."""
        return _TravellingArray(self._array)


class _TravellingArray:
    """Its content is a frame beside the pickle."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        content = pickle.PickleBuffer(self._array)
        return ReceivedArray, (content, self._array.dtype.str, self._array.shape)


class ReceivedArray:
    """The array in a worker: a context manager that gives it, as upstream's.

    Args:
        content: of the array, or of its frame.
        dtype: as numpy writes it.
        shape: of the array.
    """

    def __init__(self, content: Any, dtype: str, shape: tuple[int, ...]) -> None:
        self._array = np.frombuffer(content, dtype).reshape(shape)

    def __enter__(self) -> Any:
        return self._array

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        """Without its content: the driver has it."""
        return ReceivedArray, (b"", "B", (0,))


def travelling(monitor: Any) -> Any:
    """The monitor of a Starmap as its tasks get it."""
    shared = getattr(monitor, "shared", None)
    if not shared:
        return monitor
    arrays = {
        name: array.to_travel() if isinstance(array, SharedArray) else array for name, array in shared.items()
    }
    return monitor.new(operation=monitor.operation, shared=arrays)
