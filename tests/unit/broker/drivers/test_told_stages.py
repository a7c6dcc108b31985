"""How far drivers are: who may tell it, what is refused, and how long the status has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import testing
from quakegrid.access.principals import SERVICE, Principal, PrincipalRole
from quakegrid.api.v1 import fleet_pb2
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.services.broker.drivers import ends
from quakegrid.services.broker.rpc.sessions import SessionsServicer
from quakegrid.settings import config
from quakegrid.transport import callers
from tests.support.broker_fakes import Stage, settle

HALF = fleet_pb2.StageProgress(job_id=7, operation="classical", done_count=5, total_count=10)
Scene = Callable[[Stage], Awaitable[None]]


class EndedCall(Exception):  # noqa: N818 - as gRPC's own, which is private
    """A call was ended."""


class CallContext:
    """Of one call."""

    code = grpc.StatusCode.OK

    async def abort(self, code: grpc.StatusCode, _details: str, _metadata: Any) -> None:
        """End the call."""
        self.code = code
        raise EndedCall


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scene], None]:
    """Runs a scene with a broker."""
    monkeypatch.setattr(ends, "ABORT_GRACE_S", 0.01)
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))

    def run(scene: Scene) -> None:
        async def whole() -> None:
            stage = Stage(settings)
            try:
                await scene(stage)
            finally:
                await stage.close()

        asyncio.run(whole())

    return run


async def answer_to(
    stage: Stage, session_id: int, token: str, *stages: fleet_pb2.StageProgress, caller: Principal = SERVICE
) -> grpc.StatusCode:
    """How the broker answers somebody who tells stages."""
    callers.enter(caller)
    context: Any = CallContext()
    request = sessions_pb2.TellStagesRequest(session_id=session_id, session_token=token, stages=stages)
    with contextlib.suppress(EndedCall):
        await SessionsServicer(stage.broker).TellStages(request, context)
    return context.code  # type: ignore[no-any-return]


def told(stage: Stage) -> list[list[tuple[str, int]]]:
    """The stages of each session in the status."""
    return [
        [(each.operation, each.done_count) for each in session.stages]
        for session in stage.broker.status().sessions
    ]


def test_status_has_the_stages_that_were_told_last(play: Callable[[Scene], None]) -> None:
    """Until the session ends; what comes after it is for nobody, and no error."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        assert told(stage) == [[]]

        assert await answer_to(stage, session.session_id, "", HALF) is grpc.StatusCode.OK
        assert told(stage) == [[("classical", 5)]]
        whole = fleet_pb2.StageProgress(job_id=7, operation="classical", done_count=10, total_count=10)
        assert await answer_to(stage, session.session_id, "", whole) is grpc.StatusCode.OK
        assert told(stage) == [[("classical", 10)]]

        stage.broker.close_session(session.session_id)
        await settle()
        assert await answer_to(stage, session.session_id, "", HALF) is grpc.StatusCode.OK
        assert told(stage) == []

    play(scene)


def test_drivers_tell_the_stages_of_their_own_session_only(play: Callable[[Scene], None]) -> None:
    """The token proves that it is theirs."""

    async def scene(stage: Stage) -> None:
        driver = Principal(PrincipalRole.DRIVER, "anna")
        session, other = await stage.session(7), await stage.session(8)
        token = stage.token(session.session_id)

        for wrong in ("", "0" * 64, stage.token(other.session_id)):
            answer = await answer_to(stage, session.session_id, wrong, HALF, caller=driver)
            assert answer is grpc.StatusCode.PERMISSION_DENIED
        assert told(stage) == [[], []]
        assert await answer_to(stage, session.session_id, token, HALF, caller=driver) is grpc.StatusCode.OK
        assert told(stage) == [[("classical", 5)], []]

    play(scene)


def test_stages_that_cannot_be_change_nothing(play: Callable[[Scene], None]) -> None:
    """Those that were told before stay."""

    async def scene(stage: Stage) -> None:
        session = await stage.session(7)
        await answer_to(stage, session.session_id, "", HALF)
        bad = fleet_pb2.StageProgress(operation="classical", done_count=-1)

        for stages in ([HALF, bad], [HALF] * 65):
            answer = await answer_to(stage, session.session_id, "", *stages)
            assert answer is grpc.StatusCode.INVALID_ARGUMENT
        assert told(stage) == [[("classical", 5)]]

    play(scene)
