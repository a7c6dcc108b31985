"""Signals a process by a descriptor, so that no other process can get its number meanwhile.

Linux has this from 5.3 on, and Python if it was built with headers of such a kernel. Elsewhere, and without a
free descriptor, a signal goes to the number. A caller that checks the process just before hardly ever signals
another one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial


def open_pin(pid: int) -> int | None:
    """A descriptor that pins a process, and is readable when it has ended; None if that is impossible.

    Raises:
        ProcessLookupError: the process is gone.
    """
    if not hasattr(os, "pidfd_open"):
        with contextlib.suppress(PermissionError):  # another user owns the process
            os.kill(pid, 0)
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as exc:
        if exc.errno in (errno.ESRCH, errno.EINVAL):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        return None


@contextlib.contextmanager
def pinned(pid: int) -> Iterator[Callable[[int], None]]:
    """Pin a process if the system can do that; yields a function that sends a signal to the process.

    Raises:
        ProcessLookupError: the process is gone.
    """
    descriptor = open_pin(pid)
    if descriptor is None:
        yield partial(os.kill, pid)
        return
    try:
        yield partial(signal.pidfd_send_signal, descriptor)
    finally:
        os.close(descriptor)
