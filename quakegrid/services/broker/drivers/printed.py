"""The output of workers on its way to their driver: how much may pass, and how much may wait.

Output cannot fill the broker's memory: lines beyond a limit are left out, and a line says so where the gap
begins.
"""

from __future__ import annotations

from quakegrid.internal.v1 import orders_pb2, sessions_pb2
from quakegrid.transport.byte_rates import Allowance

# Limits of one session: its output goes to a log that is kept.
RATE_BYTES_S = 256 << 10
BURST_BYTES = 8 << 20
# The most that waits for a driver that does not read.
MAX_WAITING_BYTES = 4 << 20
LEFT_OUT = (
    "… from here on some of what workers print is left out: it is too much, or the driver does not take it"
)


class SessionOutput:
    """The output of one session's workers."""

    def __init__(self) -> None:
        self._allowance = Allowance(RATE_BYTES_S, BURST_BYTES)
        self._waiting_bytes = 0
        self._is_leaving_out = False

    def admit(self, output: orders_pb2.WorkerOutput, now_s: float) -> sessions_pb2.OpenSessionResponse | None:
        """The message for the driver; None if this output is left out."""
        byte_count = output.ByteSize()
        is_full = self._waiting_bytes + byte_count > MAX_WAITING_BYTES
        was_leaving_out = self._is_leaving_out
        self._is_leaving_out = is_full or self._allowance.take(byte_count, now_s) < byte_count
        if self._is_leaving_out and was_leaving_out:
            return None
        if self._is_leaving_out:
            del output.lines[:]
            output.lines.add(text=LEFT_OUT, is_error=True)
        self._waiting_bytes += output.ByteSize()
        return sessions_pb2.OpenSessionResponse(worker_output=output)

    def on_taken(self, response: sessions_pb2.OpenSessionResponse) -> None:
        """Note that a message leaves the queue for the driver."""
        if response.HasField("worker_output"):
            self._waiting_bytes -= response.worker_output.ByteSize()
