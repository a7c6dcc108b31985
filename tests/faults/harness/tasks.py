"""What the workers run, and the numbers that must come out."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

PART_COUNT = 50


def take(number: int) -> int:
    """A small task."""
    time.sleep(0.001)
    return number


def hold(folder: str, number: int) -> int:
    """A task that says where it begins, and ends when it may."""
    line = f"{number} {os.uname().nodename} {os.getpid()} {time.monotonic()}\n"
    with open(f"{folder}/begins", "ab", buffering=0) as begins:  # noqa: PTH123 - one write, one line
        begins.write(line.encode())
    while not os.path.exists(f"{folder}/go"):  # noqa: PTH110 - as above
        time.sleep(0.02)
    return number


def parts(number: int) -> Iterator[int]:
    """Partial results, one after the other."""
    for part in range(PART_COUNT):
        time.sleep(0.01)
        yield number * PART_COUNT + part


def block(seed: int, byte_count: int) -> bytes:
    """A large result that can be told from every other."""
    one = hashlib.sha256(str(seed).encode()).digest()
    return one * (byte_count // len(one))


def digest(data: bytes) -> str:
    """What a large result is judged by."""
    return hashlib.sha256(data).hexdigest()
