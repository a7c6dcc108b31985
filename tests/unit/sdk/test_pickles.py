"""Objects to bytes and back: large buffers aside, by value where names will not do."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from quakegrid.sdk import pickles
from quakegrid.sdk.pickles import LARGE_BYTES, Outbox


def there_and_back(value: Any) -> tuple[Any, Outbox, bytes]:
    """What arrives, and how it travelled."""
    outbox = Outbox()
    data = pickles.dump(value, outbox, has_main=True)
    return pickles.load(data, [memoryview(bytearray(frame)) for frame in outbox.frames]), outbox, data


@pytest.mark.parametrize(
    "value",
    [bytes(LARGE_BYTES), np.zeros(LARGE_BYTES), ((bytes(LARGE_BYTES), 1), {})],
)
def test_large_buffers_travel_beside_the_pickle(value: Any) -> None:
    """They are not copied into it, and come out as they went in."""
    result, outbox, data = there_and_back(value)

    assert np.array_equal(result, value) if isinstance(value, np.ndarray) else result == value
    assert type(result) is type(value)
    assert len(outbox.frames) == 1
    assert len(data) < 1000


def test_small_values_travel_whole() -> None:
    """A frame of its own would cost more."""
    result, outbox, _ = there_and_back([1, "two", b"three", np.arange(4)])

    assert result[:3] == [1, "two", b"three"]
    assert outbox.frames == []


def test_lambda_travels_by_value() -> None:
    """Plain pickle cannot, cloudpickle can."""
    offset = 3

    result, _, _ = there_and_back(lambda number: number + offset)

    assert result(4) == 7


def test_failure_leaves_the_outbox_as_it_was() -> None:
    """Frames of a value that cannot travel belong to nobody."""
    outbox = Outbox()
    pickles.dump(bytes(LARGE_BYTES), outbox, has_main=True)

    with pytest.raises(TypeError, match="lock"):
        pickles.dump([np.zeros(LARGE_BYTES), threading.Lock()], outbox, has_main=True)

    assert len(outbox.frames) == 1
