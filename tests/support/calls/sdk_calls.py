"""Functions that tests send to workers, which import them by name."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn


def square(number: int) -> int:
    """A tiny task."""
    return number * number


def add(first: int, second: int = 0) -> int:
    """Two arguments, one of them optional."""
    return first + second


def fail(message: str) -> NoReturn:
    """A task that raises."""
    raise KeyError(message)


def leave(code: int) -> NoReturn:
    """A task that thinks it is a program."""
    sys.exit(code)


def interrupt() -> NoReturn:
    """A task that raises what no task should."""
    raise KeyboardInterrupt


def kill_me() -> None:
    """A task that ends its worker, each time."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once(marker: str, number: int) -> int:
    """Ends its worker the first time it is tried."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return number
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def wait_for(path: str) -> str:
    """Runs until a file exists."""
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def begin_and_wait(begins: str, gate: str) -> str:
    """Adds a line with its process id to a file, and runs until another file exists."""
    with Path(begins).open("a", encoding="ascii") as stream:
        stream.write(f"{os.getpid()}\n")
    return wait_for(gate)


def nap(duration_s: float) -> float:
    """Holds a worker for a while."""
    time.sleep(duration_s)
    return duration_s


def append(items: list[int]) -> list[int]:
    """Changes its argument."""
    items.append(1)
    return items


def take_a_moment(number: int) -> int:
    """Gives back its argument, after a while."""
    time.sleep(0.002)
    return number


def double_array(array: Any) -> Any:
    """Changes a large argument in place, and returns it."""
    array *= 2
    return array


def zeros(count: int) -> bytes:
    """A result of any size."""
    return bytes(count)


def count_to(number: int) -> Iterator[int]:
    """Yields its results."""
    yield from range(1, number + 1)


def yield_until(number: int) -> Iterator[int]:
    """Yields some results, then raises."""
    yield from range(number)
    raise KeyError(number)


def yield_and_die(marker: str) -> Iterator[str]:
    """Ends its worker between its two results, the first time it is tried."""
    yield "first"
    yield str(kill_once(marker, 2))


def lock() -> Any:
    """A result that cannot be pickled."""
    return threading.Lock()


async def coroutine() -> int:
    """A call whose result only a loop could have."""
    return 1


class PickyError(Exception):
    """Can be pickled, and not be unpickled: it wants two arguments and keeps one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class LockedError(Exception):
    """Cannot even be pickled."""

    def __init__(self) -> None:
        super().__init__("locked", sys.stdout)


def fail_pickily() -> NoReturn:
    """Raises what the client cannot read."""
    raise PickyError("one", "two")


def fail_locked() -> NoReturn:
    """Raises what the worker cannot send."""
    raise LockedError


class Counter:
    """Has state, of which each call gets its own copy."""

    def __init__(self) -> None:
        self.count = 0

    def increment(self) -> int:
        """Count this call."""
        self.count += 1
        return self.count


class Unloadable:
    """An argument that can be pickled, and not be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


def double_in_place(array: Any) -> float:
    """Change the argument itself; the sum of what it is then."""
    array *= 2
    return float(array.sum())


def sum_nested(count: int) -> tuple[str, int]:
    """A task that itself uses joblib: the name of the backend that it gets, and a sum."""
    import joblib

    parallel = joblib.Parallel(n_jobs=2)
    return type(parallel._backend).__name__, sum(parallel(joblib.delayed(square)(n) for n in range(count)))


def nest(depth: int) -> list[Any]:
    """A result too deep to be pickled."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def recurse(depth: int = 0) -> int:
    """Calls itself without end."""
    return recurse(depth + 1)


def overflow_stack() -> str:
    """Recurses in C, beyond the stack."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(10**9)
    return repr(nest(10**6))


def print_lines(count: int) -> int:
    """Prints a KiB a line."""
    for _ in range(count):
        print("x" * 1023)
    return count
