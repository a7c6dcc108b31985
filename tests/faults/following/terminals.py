"""A real terminal for a command: a pty as its controlling terminal, keys to press, a plug to pull."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection

from tests.support.clusters import Cluster

TIMEOUT_S = 120.0
CTRL_C = "\x03"


class Terminal:
    """A command that runs at a terminal of its own.

    Args:
        command: with its arguments.
        environ: its environment.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.screen = ""
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.execvpe(command[0], list(command), {**environ, "TERM": "xterm", "COLUMNS": "100"})
        self._pidfd = os.pidfd_open(self._pid)
        self._is_hung_up = False
        self._code: int | None = None

    def wait_for(self, text: str) -> str:
        """Read the screen until `text` has come; what was read for it, which the next call does not see."""
        end_s = time.monotonic() + TIMEOUT_S
        while text not in self.screen:
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"{text!r} did not come: {self.screen}"
            assert self._read(left_s), f"ended without {text!r}: {self.screen}"
        seen, _, self.screen = self.screen.partition(text)
        return seen + text

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal, as when a connection is lost: the kernel sends SIGHUP."""
        self._is_hung_up = True
        os.close(self._master)

    def kill(self) -> None:
        """Kill the command."""
        os.kill(self._pid, signal.SIGKILL)

    def finish(self) -> tuple[int, str]:
        """Wait for its end; the exit code, 128 + n for signal n, and the rest of the screen."""
        while not self._is_hung_up and self._read(TIMEOUT_S):
            pass
        assert connection.wait([self._pidfd], TIMEOUT_S), f"goes on: {self.screen}"
        if self._code is None:
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._code = 128 - code if code < 0 else code
        return self._code, self.screen

    def close(self) -> None:
        """Kill the command if it still runs."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                self.kill()
            self._code = os.waitpid(self._pid, 0)[1]
        os.close(self._pidfd)
        if not self._is_hung_up:
            os.close(self._master)

    def _read(self, timeout_s: float) -> bool:
        """Read what is there, or comes; returns False if the terminal has no user any more."""
        if not connection.wait([self._master], timeout_s):
            return True
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # Linux tells so that the last user of the other end is gone
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


@contextlib.contextmanager
def at_terminal(cluster: Cluster, *args: object) -> Iterator[Terminal]:
    """`quakegrid` with these arguments at a terminal, which is ended with the block."""
    terminal = Terminal(cluster.command(*args), cluster.environ)
    try:
        yield terminal
    finally:
        terminal.close()
