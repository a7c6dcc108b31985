"""The output of one worker: cuts it into lines, limits its size, and keeps the end of stderr.

Pure: takes bytes and times, returns lines. Does not depend on pipes and readers.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass

from quakegrid.transport.byte_rates import Allowance

# The limit of one worker in the long run, and at once; output beyond it is dropped.
RATE_BYTES_S = 64 << 10
BURST_BYTES = 1 << 20
# Bytes of lines that wait while no reader takes them; the oldest are dropped first.
MAX_WAITING_BYTES = 256 << 10
MAX_LINE_BYTES = 8 << 10
# How much of stderr is told when a worker dies.
LAST_LINES = 20
LAST_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, without its end."""

    text: str
    is_error: bool


class PrintedOutput:
    """The output of one worker that waits to be sent; empty lines are left out."""

    def __init__(self) -> None:
        self._allowance = Allowance(RATE_BYTES_S, BURST_BYTES)
        # Each with whether it is of stderr, or None for a note on lines that were left out.
        self._chunks: collections.deque[tuple[bytes, bool | None]] = collections.deque()
        self._waiting_bytes = 0
        # For stdout and stderr: the beginning of an unfinished line, and whether the rest of a line is
        # dropped.
        self._begun = {False: b"", True: b""}
        self._is_cut = {False: False, True: False}
        self._last = b""
        # Bytes over the limit, and bytes that no reader took in time.
        self._dropped_bytes = self._seen_dropped_bytes = self._expired_bytes = 0

    @property
    def is_waiting(self) -> bool:
        """Whether lines wait, the beginning of a line, or a note on dropped lines."""
        return bool(self._chunks or self._dropped_bytes)

    @property
    def waiting_bytes(self) -> int:
        """The size of the lines that wait."""
        return self._waiting_bytes

    def feed(self, data: bytes, *, is_error: bool, now_s: float) -> None:
        """Take bytes that the worker has printed."""
        if is_error:
            self._last = (self._last + data)[-LAST_BYTES:]
        allowed = self._allowance.take(len(data), now_s)
        end = len(data) if allowed == len(data) else data.rfind(b"\n", 0, allowed) + 1
        kept, dropped = data[:end], data[end:]
        if self._is_cut[is_error]:
            start = kept.find(b"\n")  # a line break ends the line that had begun before
            start = len(kept) if start < 0 else start
            self._dropped_bytes += start
            kept = kept[start:]
        if kept:
            self._keep(kept, is_error=is_error)
        if dropped:
            self._dropped_bytes += len(dropped)
            self._is_cut[is_error] = not dropped.endswith(b"\n")

    def take(self, *, is_last: bool = False) -> list[Line]:
        """The complete lines, in order; with `is_last` also an unfinished one."""
        lines: list[Line] = []
        if self._expired_bytes:
            lines.append(Line(_note(self._expired_bytes), is_error=True))
            self._expired_bytes = 0
        while self._chunks:
            data, is_error = self._chunks.popleft()
            texts = [_note(int(data))] if is_error is None else self._cut(data, is_error=is_error)
            lines += [Line(text, is_error is not False) for text in texts if text]
        self._waiting_bytes = 0
        if self._dropped_bytes and (is_last or self._dropped_bytes == self._seen_dropped_bytes):
            lines.append(Line(_note(self._dropped_bytes), is_error=True))
            self._dropped_bytes = 0
        self._seen_dropped_bytes = self._dropped_bytes
        if is_last:
            lines += [Line(_decode(rest), is_error) for is_error, rest in self._begun.items() if rest]
            self._begun = {False: b"", True: b""}
        return lines

    def last_lines(self) -> list[str]:
        """The last lines of stderr."""
        return [_decode(line) for line in self._last.splitlines()[-LAST_LINES:] if line.strip()]

    def _keep(self, data: bytes, *, is_error: bool) -> None:
        self._is_cut[is_error] = False
        if self._dropped_bytes:
            self._chunks.append((b"%d" % self._dropped_bytes, None))
            self._dropped_bytes = 0
        self._chunks.append((data, is_error))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > MAX_WAITING_BYTES:
            expired, is_of_stderr = self._chunks.popleft()
            self._expired_bytes += int(expired) if is_of_stderr is None else len(expired)
            self._waiting_bytes -= 0 if is_of_stderr is None else len(expired)

    def _cut(self, data: bytes, *, is_error: bool) -> list[str]:
        *lines, rest = (self._begun[is_error] + data).split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(line)]
        if len(rest) > MAX_LINE_BYTES:
            *begun, rest = _pieces(rest)
            pieces += begun
        self._begun[is_error] = rest
        return [_decode(piece) for piece in pieces]


def _pieces(line: bytes) -> list[bytes]:
    """A line in pieces that are not too long. Of a line with carriage returns only the last part is kept."""
    line = line.rstrip(b"\r").rpartition(b"\r")[2]
    return [line[start : start + MAX_LINE_BYTES] for start in range(0, max(len(line), 1), MAX_LINE_BYTES)]


def _decode(line: bytes) -> str:
    return line.decode(errors="replace").replace("\0", "�")


def _note(byte_count: int) -> str:
    return f"… {_size(byte_count)} more of its output were dropped"


def _size(byte_count: int) -> str:
    if byte_count < 10_000:
        return f"{byte_count} bytes"
    return f"{byte_count / 1e6:.0f} MB" if byte_count >= 10_000_000 else f"{byte_count / 1e3:.0f} kB"
