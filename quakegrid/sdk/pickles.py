"""Python objects to bytes and back, for client and worker.

Uses plain pickle where possible, and cloudpickle for objects that the other side cannot import: lambdas,
closures and everything of `__main__`. Large buffers, such as those of arrays, stay where they are and travel
as frames of their own. Unpickles only bytes that came over a lane, whose peers have proven the authkey.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

Buffer = memoryview
# Below this a copy costs less than a frame.
LARGE_BYTES = 64 << 10
_MAIN = b"__main__"
_dumps, _loads = pickle.dumps, pickle.loads


class Outbox:
    """Collects the frames that large buffers travel in."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        self.frames: list[Buffer] = []

    def keep(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer out of a pickle if it is large; True leaves it in."""
        view = buffer.raw()
        if view.nbytes < LARGE_BYTES:
            return True
        self.frames.append(view)
        return False


class _Bytes:
    """Large bytes, which pickle itself would copy into its stream."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Callable[..., bytes], tuple[pickle.PickleBuffer]]:
        return bytes, (pickle.PickleBuffer(self._value),)


def dump(value: Any, outbox: Outbox, *, has_main: bool) -> bytes:
    """Pickle a value; its large buffers go to the outbox.

    Args:
        value: anything.
        outbox: keeps the frames.
        has_main: whether objects that are defined in this process's `__main__` travel by value.
    Raises:
        Exception: whatever the value's own methods raise; the outbox is as it was.
    """
    mark = len(outbox.frames)
    try:
        data = _plain_dumps(value, outbox)
        if data is None or (has_main and _MAIN in data):
            del outbox.frames[mark:]
            data = _cloud_dumps(value, outbox)
    except BaseException:
        del outbox.frames[mark:]
        raise
    return data


def _plain_dumps(value: Any, outbox: Outbox) -> bytes | None:
    """Plain pickle, or None where cloudpickle can do more, or says better what it cannot."""
    mark = len(outbox.frames)
    if type(value) is bytes:  # not even once: a worker may lack the memory
        value = _lift_bytes(value)
    try:
        data = _dumps(value, 5, buffer_callback=outbox.keep)
        if len(data) >= LARGE_BYTES:
            lifted = _lift_bytes(value)
            if lifted is not value:
                del outbox.frames[mark:]
                data = _dumps(lifted, 5, buffer_callback=outbox.keep)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return data


def _lift_bytes(value: Any) -> Any:
    """The value with large bytes made out-of-band: itself, or in tuples such as those of arguments."""
    kind = type(value)
    if kind is bytes:
        return _Bytes(value) if len(value) >= LARGE_BYTES else value
    if kind is tuple:
        lifted = tuple(map(_lift_bytes, value))
        return lifted if any(a is not b for a, b in zip(lifted, value, strict=True)) else value
    return value


def _cloud_dumps(value: Any, outbox: Outbox) -> bytes:
    import cloudpickle  # noqa: PLC0415 - many programs never need it

    data: bytes = cloudpickle.dumps(value, 5, buffer_callback=outbox.keep)
    return data


def dump_function(function: Any) -> bytes:
    """Pickle a function without state: by name if the other side can import it, else by value."""
    try:
        data = _dumps(function, 5)
        if _MAIN not in data:
            return data
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    return _cloud_dumps(function, Outbox())


def load(data: bytes, buffers: list[Buffer] | None = None) -> Any:
    """Unpickle the bytes that `dump` made; `buffers` are the frames, which the value goes on using."""
    return _loads(data, buffers=buffers) if buffers else _loads(data)
