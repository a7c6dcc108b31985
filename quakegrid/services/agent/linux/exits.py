"""Why a process ended, in words. Pure."""

from __future__ import annotations

import os
import signal


def describe_exit(status: int) -> str:
    """Turn a wait status into words, such as "killed by SIGKILL (perhaps out of memory)"."""
    if os.WIFEXITED(status):
        return f"exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " (perhaps out of memory)" if number == signal.SIGKILL else ""
    return f"killed by {name}{hint}"


def exit_code(status: int) -> int:
    """The shell's exit code of a wait status: 128 + n after signal n."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
