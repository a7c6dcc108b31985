"""The agent's answer to a doctor: facts of this machine, as the agent sees them, and the machine's clock.

Facts are gathered in threads, so that the agent's loop goes on while one of them hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.doctor import codec
from quakegrid.doctor.facts import NodeFacts
from quakegrid.doctor.gathering import Errand
from quakegrid.doctor.nonces import is_nonce_name
from quakegrid.internal.v1 import examination_pb2, examination_pb2_grpc
from quakegrid.services.agent.node.doors import request_checks
from quakegrid.transport import error_details

Context = grpc.aio.ServicerContext[Any, Any]


class ExaminationServicer(examination_pb2_grpc.ExaminationServicer):
    """See protos/quakegrid/internal/v1/examination.proto.

    Args:
        gather: gathers the facts in a few seconds at most; called in a thread.
        core_count: cores that the agent offers now.
        instance_id: of the agent.
    """

    def __init__(
        self, gather: Callable[[int, Errand], NodeFacts], core_count: Callable[[], int], instance_id: str
    ) -> None:
        self._gather, self._core_count, self._instance_id = gather, core_count, instance_id

    async def Examine(  # noqa: N802
        self, request: examination_pb2.ExamineRequest, context: Context
    ) -> examination_pb2.ExamineResponse:
        """Examine, see the contract."""
        response = examination_pb2.ExamineResponse()
        response.receive_time.GetCurrentTime()
        try:
            request_checks.check_examine(request)
        except errors.UsageError as exc:
            await error_details.abort(context, grpc.StatusCode.INVALID_ARGUMENT, exc)
        if request.nonce_name and not is_nonce_name(request.nonce_name):
            refusal = errors.UsageError("that is no name of a nonce")
            await error_details.abort(context, grpc.StatusCode.INVALID_ARGUMENT, refusal)
        names = tuple(request.account_names)
        errand = Errand(request.shared_dir, request.nonce_name, tuple(request.lane_ports), names)
        facts = await asyncio.to_thread(self._gather, self._core_count(), errand)
        response.facts.CopyFrom(codec.encode_facts(replace(facts, instance_id=self._instance_id)))
        response.send_time.GetCurrentTime()
        return response
