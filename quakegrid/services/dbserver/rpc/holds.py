"""The Holds service: decode, call, encode."""

from __future__ import annotations

import asyncio
from typing import Any

from quakegrid.internal.v1 import holds_pb2, holds_pb2_grpc
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import field_checks, holds
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.holds import HoldMonitor
from quakegrid.services.dbserver.jobs.messages import encode_state
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.services.dbserver.store.writer import Writer

# Holds that are written at the same time.
NEW_HOLDS = 16


class HoldsServicer(holds_pb2_grpc.HoldsServicer):
    """Answers drivers that hold a job. Made in the event loop that serves them."""

    def __init__(self, readers: Readers, writer: Writer, monitor: HoldMonitor) -> None:
        self._readers, self._writer, self._monitor = readers, writer, monitor
        self._hold_slots = asyncio.Semaphore(NEW_HOLDS)

    async def RenewHold(  # noqa: N802  named in the proto
        self, request: holds_pb2.RenewHoldRequest, _context: Any
    ) -> holds_pb2.RenewHoldResponse:
        """Keep a driver's hold of a job; writes only if it is new.

        Runs in the event loop and reads two rows by their keys. So it never waits for threads, which long
        queries may hold.
        """
        hold_s = request.hold_timeout.ToNanoseconds() / 1e9
        holds.check_hold_s(hold_s)
        field_checks.check_name("holder", request.holder)
        session = self._readers.session()
        state = job_rows.get_state(session, request.job_id)
        if not (state.is_final or holds.is_held(session, request.job_id, request.holder, hold_s)):
            state = await self._open_hold(request.job_id, request.holder, hold_s)
        if state.is_final:
            self._monitor.drop(request.job_id)
        else:
            self._monitor.extend(request.job_id, hold_s)
        return holds_pb2.RenewHoldResponse(state=encode_state(state))

    async def _open_hold(self, job_id: int, holder: str, hold_s: float) -> JobState:
        async with self._hold_slots:  # the writer's queue has room for so many, so the loop never waits
            opened = self._writer.submit(lambda session: holds.open_hold(session, job_id, holder, hold_s))
            return await asyncio.wrap_future(opened)
