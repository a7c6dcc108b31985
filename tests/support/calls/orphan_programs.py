"""Programs of test_state_lock.py that fork, change user and make namespaces: each has a process of its own.

`python -m tests.support.calls.orphan_programs NAME`; the exit code is 0 if all is right, and 77 if this
machine does not allow it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from quakegrid.services.agent.linux import orphans
from quakegrid.services.agent.node.state_lock import in_environment
from quakegrid.settings.config import AGENT_MARK

NOBODY = 65534
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
CANNOT = 77
TIMEOUT_S = 30.0


def in_child(act: Callable[[], int]) -> int:
    """The exit code of a fork that does something."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child_of_another_user() -> int:
    """End the own child of a process that has one of another user, too, and leave that."""
    reader, writer = os.pipe()
    stranger = os.fork()
    if stranger == 0:
        os.close(writer)
        os.read(reader, 1)  # until we end
        os._exit(0)
    os.setuid(NOBODY)
    own = os.fork()
    if own == 0:
        signal.pause()
    found = orphans.end_orphans(lambda _process: False)
    is_ended = os.waitpid(own, 0)[1] == signal.SIGKILL
    is_left = os.waitpid(stranger, os.WNOHANG) == (0, 0)
    return 0 if set(found) == {own, stranger} and is_ended and is_left else 1


def process_1() -> int:
    """Be process 1 of a container, to which three processes come; tell whether the right one is left."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNS | CLONE_NEWPID):
        return CANNOT
    return in_child(_with_proc)


def _with_proc() -> int:
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    mark = "1-2-x"
    for environ, seconds in (({AGENT_MARK: mark}, "1000"), ({}, "1000"), ({}, "0")):
        # They lose their parent, and come to process 1.
        subprocess.run(
            ["setsid", "-f", "sleep", seconds], env={"PATH": os.environ["PATH"], **environ}, check=True
        )
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        orphans.end_adopted(in_environment(mark))
        left = [each.pid for each in orphans._processes() if each.parent == 1]
        if len(left) == 1 and b"1000" in Path(f"/proc/{left[0]}/cmdline").read_bytes():
            return int(AGENT_MARK.encode() in Path(f"/proc/{left[0]}/environ").read_bytes())
    return 1


if __name__ == "__main__":
    sys.exit({"child_of_another_user": child_of_another_user, "process_1": process_1}[sys.argv[1]]())
