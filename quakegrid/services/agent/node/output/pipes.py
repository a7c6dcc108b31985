"""The pipes that workers print into, and the messages that bring their lines to watchers.

Reads as fast as workers print, so that no worker waits for the agent, and sends lines in batches. While no
stream watches the node, or its reader is slow, only the newest lines are kept. Runs in the agent's event
loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent.rules.output_lines import PrintedOutput

log = logging.getLogger("quakegrid.agent")
READ_BYTES = 1 << 16
# Between two reads of a pipe that was not half full.
PAUSE_S = 0.001
# Between two messages of a worker, unless so much waits.
INTERVAL_S = 0.25
FULL_BYTES = 128 << 10
# When a worker has ended, its own children may go on printing for a moment.
LAST_READS = 16


@dataclass(slots=True)
class _Pipes:
    """The reading ends of a worker's pipes by whether it is stderr, and what came through them."""

    session_id: int
    fds: dict[bool, int] = field(default_factory=dict)
    output: PrintedOutput = field(default_factory=PrintedOutput)


class OutputPipes:
    """The pipes of all workers.

    Args:
        node: name of this node, for the readers of the lines.
        publish: sends a message to all watchers that keep up.
        is_watched: whether there is such a watcher.
    """

    def __init__(
        self,
        node: str,
        publish: Callable[[orders_pb2.WatchResponse], None],
        is_watched: Callable[[], bool],
    ) -> None:
        self._node, self._publish, self._is_watched = node, publish, is_watched
        self._pipes: dict[str, _Pipes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told_s = 0.0

    def open(self, name: str, session_id: int) -> list[int]:
        """Make pipes for a worker's stdout and stderr; returns their writing ends, which the caller closes.

        If the agent has no free descriptors the worker gets no pipes, and prints where its template prints.
        """
        pipes = self._pipes[name] = _Pipes(session_id)
        writers: list[int] = []
        for is_error in (False, True):
            try:
                reader, writer = os.pipe2(os.O_CLOEXEC)
            except OSError as exc:
                log.warning("no_pipe worker=%s reason=%s", name, exc)
                for fd in writers:
                    os.close(fd)
                return []
            os.set_blocking(reader, False)
            pipes.fds[is_error] = reader
            writers.append(writer)
            self._await_data(pipes, is_error=is_error)
        return writers

    def close(self, name: str) -> list[str]:
        """Send the last lines of a worker that has ended; returns the end of its stderr."""
        pipes = self._pipes.get(name)
        if pipes is None:
            return []
        self._read_all(pipes)
        for is_error in list(pipes.fds):
            self._close(pipes, is_error=is_error)
        if self._is_watched():
            self._tell(name, pipes, is_last=True)
        del self._pipes[name]
        return pipes.output.last_lines()

    def flush(self, session_id: int) -> None:
        """Send what the workers of a session have printed so far, then a message that this is all."""
        for name, pipes in self._pipes.items():
            if pipes.session_id == session_id:
                self._read_all(pipes)
                self._tell(name, pipes, is_last=True)
        flushed = orders_pb2.OutputFlushed(session_id=session_id)
        self._publish(orders_pb2.WatchResponse(output_flushed=flushed))

    def _on_ready(self, pipes: _Pipes, is_error: bool) -> None:
        byte_count = self._read(pipes, is_error=is_error)
        # Wait until some text has come together, but not until the pipe is full.
        if 0 < byte_count < READ_BYTES // 2:
            loop = asyncio.get_running_loop()
            loop.remove_reader(pipes.fds[is_error])
            loop.call_later(PAUSE_S, lambda: self._await_data(pipes, is_error=is_error))
        self._set_timer(is_urgent=pipes.output.waiting_bytes >= FULL_BYTES)

    def _await_data(self, pipes: _Pipes, *, is_error: bool) -> None:
        if is_error in pipes.fds:
            asyncio.get_running_loop().add_reader(pipes.fds[is_error], self._on_ready, pipes, is_error)

    def _read(self, pipes: _Pipes, *, is_error: bool) -> int:
        """Read a piece from a pipe; returns its size, 0 if nothing is there."""
        try:
            data = os.read(pipes.fds[is_error], READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._close(pipes, is_error=is_error)
            return 0
        pipes.output.feed(data, is_error=is_error, now_s=asyncio.get_running_loop().time())
        return len(data)

    def _read_all(self, pipes: _Pipes) -> None:
        for is_error in list(pipes.fds):
            for _ in range(LAST_READS):
                if is_error not in pipes.fds or not self._read(pipes, is_error=is_error):
                    break

    def _close(self, pipes: _Pipes, *, is_error: bool) -> None:
        fd = pipes.fds.pop(is_error)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)

    def _set_timer(self, *, is_urgent: bool = False) -> None:
        loop = asyncio.get_running_loop()
        if is_urgent and self._is_watched():
            self._on_time()
        elif self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._told_s + INTERVAL_S), self._on_time)

    def _on_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._told_s = asyncio.get_running_loop().time()
        if self._is_watched():
            for name, pipes in self._pipes.items():
                if pipes.output.is_waiting:
                    self._tell(name, pipes)
        if any(pipes.output.is_waiting for pipes in self._pipes.values()):
            self._set_timer()

    def _tell(self, name: str, pipes: _Pipes, *, is_last: bool = False) -> None:
        lines = [
            orders_pb2.OutputLine(text=line.text, is_error=line.is_error)
            for line in pipes.output.take(is_last=is_last)
        ]
        if lines:
            output = orders_pb2.WorkerOutput(
                worker_id=name, session_id=pipes.session_id, node=self._node, lines=lines
            )
            self._publish(orders_pb2.WatchResponse(worker_output=output))
