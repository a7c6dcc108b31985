"""How many outcomes a driver gets before it has taken the earlier ones.

Pure. What is on its way to a driver is bounded, so a driver that does not read costs the lane a bounded
amount of memory; the rest is parked, and past a bound of its own no new tasks are placed.
"""

from __future__ import annotations

from collections.abc import KeysView
from dataclasses import dataclass, field

from quakegrid.transport.lane_sockets import FLOW_BYTES, RECEIPT_BYTES
from services.lane.payloads import Payload
from services.lane.tasks.events import TaskId

# Sent as soon as so much was taken that the rest fits; the driver tells each `RECEIPT_BYTES`.
_OPEN_BYTES = FLOW_BYTES - RECEIPT_BYTES
PARKED_BYTES = 4 * FLOW_BYTES


@dataclass(frozen=True, slots=True)
class _Parked:
    """An outcome that waits."""

    header: bytes
    payload: Payload
    byte_count: int


@dataclass(slots=True)
class OutcomeFlow:
    """Of one driver; what is parked goes out in the order it came."""

    sent_bytes: int = 0
    parked_bytes: int = 0
    _parked: dict[TaskId, _Parked] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the next outcome may be sent at once."""
        return not self._parked and self.sent_bytes < _OPEN_BYTES

    @property
    def is_full(self) -> bool:
        """Whether the driver should get no more done for now."""
        return self.parked_bytes > PARKED_BYTES

    @property
    def parked_ids(self) -> KeysView[TaskId]:
        """The tasks whose outcomes wait."""
        return self._parked.keys()

    @property
    def parked_payloads(self) -> list[Payload]:
        """What waits, for dropping it."""
        return [parked.payload for parked in self._parked.values()]

    def park(self, task_id: TaskId, header: bytes, payload: Payload, byte_count: int) -> None:
        """Keep an outcome for later."""
        self._parked[task_id] = _Parked(header, payload, byte_count)
        self.parked_bytes += byte_count

    def receive(self, byte_count: int) -> None:
        """The driver has taken so much; it may count what was on its way when it joined, which we do not."""
        self.sent_bytes = max(0, self.sent_bytes - byte_count)

    def take(self) -> tuple[bytes, Payload] | None:
        """The next parked outcome, if it may be sent now; it counts as sent."""
        if not self._parked or self.sent_bytes >= _OPEN_BYTES:
            return None
        parked = self._parked.pop(next(iter(self._parked)))
        self.parked_bytes -= parked.byte_count
        self.sent_bytes += parked.byte_count
        return parked.header, parked.payload
