"""Functions that tests send to workers, which do there what no worker should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

PAUSE_S = 0.005
# Of the children of a bounded fork bomb.
SHORT_LIFE_S = 0.2
REPLACED_COUNT = 20


def tell(path: str, pids: list[int]) -> None:
    """Write numbers for the test, all at once."""
    draft = Path(f"{path}.{os.getpid()}")
    draft.write_text(" ".join(map(str, pids)))
    draft.rename(path)


def print_lines(count: int, size: int) -> int:
    """Print as much as it can."""
    line = "x" * (size - 1)
    for _ in range(count):
        print(line)
    return count


def print_both(word: str) -> str:
    """Say something on both streams, the second without an end."""
    print(f"{word} on stdout")
    os.write(1, b"bytes that are no text: \xff\n")
    os.write(2, f"{word} on stderr".encode())
    return word


def die_in_words(number: int) -> None:
    """End by a signal, with some last words that were never flushed."""
    for line in range(30):
        print(f"last words {line}", file=sys.stderr)
    os.kill(os.getpid(), number)


def leave_quietly() -> NoReturn:
    """End the worker from inside of a task, without a word."""
    os._exit(3)


def close_everything() -> str:
    """Close the worker's sockets, and all else that is open."""
    os.closerange(3, 4096)
    return "closed"


def close_output(word: str) -> str:
    """Close where the worker prints to."""
    os.close(1)
    os.close(2)
    return word


def wait_for_ever() -> NoReturn:
    """Hold on until somebody kills us."""
    while True:
        time.sleep(60)


def wait_at_first(path: str) -> str:
    """Hold on in the first attempt, after telling who we are; later ones end at once."""
    if Path(path).exists():
        return "again"
    tell(path, [os.getpid()])
    wait_for_ever()


def hold_on_at_first(path: str) -> str:
    """The same, and when we are asked to end tell that, too, and do not."""
    signal.signal(signal.SIGTERM, lambda *_: tell(f"{path}.term", [os.getpid()]))
    return wait_at_first(path)


def ignore_everything(path: str) -> None:
    """Tell who we are, and do not listen to polite requests."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, signal.SIG_IGN)
    tell(path, [os.getpid()])
    wait_for_ever()


def have_children(path: str) -> None:
    """Have children of every kind, and a grandchild whose parent is gone; tell who we all are."""
    reader, writer = os.pipe()
    plain = fork(lambda: None)
    apart = fork(os.setsid)
    middle = os.fork()
    if middle == 0:
        os.setsid()
        os.write(writer, b"%d" % fork(lambda: os.setpgid(0, 0)))
        os._exit(0)
    os.waitpid(middle, 0)
    lost = int(os.read(reader, 20))
    nameless = subprocess.Popen(["sleep", "1000"], env={}, start_new_session=True)
    program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    tell(path, [os.getpid(), plain, apart, lost, nameless.pid, program.pid])
    wait_for_ever()


def leave_children(path: str) -> int:
    """Have a child in a session of its own, and end as if all were well."""
    tell(path, [fork(os.setsid)])
    return os.getpid()


def fork_many(path: str, count: int) -> None:
    """Fork children that fork, half of them in sessions of their own; the last are replaced as they end.

    For some seconds there are 4 * 4 * 4 * 4 at a time with `count` 4, and never more than some 1,500 in all.
    """
    tell(path, [os.getpid()])
    depth = 0
    children = 0
    while depth < 4 and children < count:
        if os.fork() == 0:
            depth, children = depth + 1, 0
            if os.getpid() % 2:
                os.setsid()
        else:
            children += 1
    if depth == 4:
        time.sleep(SHORT_LIFE_S)
        os._exit(0)
    for _ in range(REPLACED_COUNT if depth == 3 else 0):
        os.wait()
        if os.fork() == 0:
            time.sleep(SHORT_LIFE_S)
            os._exit(0)
    wait_for_ever()


def fork(prepare: object) -> int:
    """Fork a child that waits for ever, and pays no attention to SIGTERM."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        prepare()  # type: ignore[operator]
        wait_for_ever()
    return pid
