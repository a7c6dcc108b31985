"""Lets a process end with the process that started it, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_EXIT_ORPHANED = 70


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Let the kernel send us a signal when our parent ends, even if it is killed or we are stopped.

    Args:
        number: of the signal; 0 for none from now on.
    Raises:
        OSError: the kernel refuses.
    """
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before the call
        os._exit(_EXIT_ORPHANED)
