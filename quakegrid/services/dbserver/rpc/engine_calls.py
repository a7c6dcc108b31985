"""The EngineCalls service: decode, call, encode.

Calls of a stream and single calls are treated alike: quick ones need no thread, the others run in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import grpc

from quakegrid.access import audits
from quakegrid.errors import NotAllowedError, PeerUnreachableError, QuakeGridError, UsageError
from quakegrid.internal.v1 import engine_calls_pb2, engine_calls_pb2_grpc
from quakegrid.jobs import engine_values
from quakegrid.services.dbserver.deletions import files
from quakegrid.services.dbserver.deletions.reaper import Reaper
from quakegrid.services.dbserver.engine import actions, effects
from quakegrid.services.dbserver.engine.parts import Parts
from quakegrid.services.dbserver.jobs import owners
from quakegrid.services.dbserver.people import private_tables
from quakegrid.services.dbserver.rpc import status_codes
from quakegrid.services.dbserver.rpc.call_streams import CallStreams, IsWanted
from quakegrid.services.dbserver.rpc.interceptor import CallThreads
from quakegrid.services.dbserver.store.connections import MAX_MADE_VALUE_BYTES
from quakegrid.services.dbserver.store.database import DoomedFile, Readers, SqlSession
from quakegrid.services.dbserver.store.idempotence import Answer, Requests
from quakegrid.services.dbserver.store.read_limits import ReadLimits
from quakegrid.services.dbserver.store.writer import Tell, Writer
from quakegrid.transport import audited_calls, callers
from quakegrid.transport.audited_calls import AuditedCall

# Actions that read all jobs or all lines of a log.
_SLOW_ACTIONS = frozenset({"fetch", "find", "get_calcs", "get_log", "get_longest_jobs", "list_calculations"})


class EngineCallsServicer(engine_calls_pb2_grpc.EngineCallsServicer):
    """Answers the engine's calls. Made in the event loop that serves them."""

    def __init__(
        self,
        readers: Readers,
        writer: Writer,
        requests: Requests,
        reaper: Reaper,
        threads: CallThreads,
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._requests = requests
        self._reaper = reaper
        self._threads = threads
        self._streams = CallStreams(self._begin_audited)

    async def Call(  # type: ignore[override]  # noqa: N802  named in the proto
        self, request: engine_calls_pb2.CallRequest, context: Any
    ) -> bytes:
        """Run an action or SQL; the response is serialized already."""
        outcome = await self._streams.answer(request)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome.place is not None:
            outcome.place.give_back_after(context)
        return outcome.result

    async def CallStream(  # type: ignore[override]  # noqa: N802  named in the proto
        self, _requests: Any, context: Any
    ) -> None:
        """Run actions and SQL until the client sends no more."""
        await self._streams.serve(context)

    def close(self) -> None:
        """End the streams."""
        self._streams.close()

    def _begin_audited(
        self, request: engine_calls_pb2.CallRequest, tell: Tell, is_wanted: IsWanted
    ) -> bytes | None:
        """Begin a call, and let the audit log know how it ends if people ask for it, or if it is refused."""
        is_audited = audits.is_audited(request.action)
        call = audited_calls.current()
        try:
            if is_audited and call is not None:
                tell = _audited(call, request, tell)
            return self._begin(request, tell, is_wanted)
        except QuakeGridError as exc:
            if call is not None and (is_audited or isinstance(exc, NotAllowedError)):
                call.note(*_outcome(_about(request), None, exc))
            raise

    def _begin(self, request: engine_calls_pb2.CallRequest, tell: Tell, is_wanted: IsWanted) -> bytes | None:
        """Answer a quick read, enqueue a quick write, and do any other call in a thread."""
        action = self._resolve(request)
        if not action.is_quick:
            threads = self._threads_of(action, request.action)
            threads.submit(self._finish_for, action, request, tell, is_wanted)
        elif action.is_writing:
            self._requests.enqueue_once(
                request.request_id,
                _kind(request),
                _writing(action, _Left()),
                tell,
                user_name=request.user_name,
            )
        else:
            return _respond(action.run(self._readers.session(request.user_name)))
        return None

    def _resolve(self, request: engine_calls_pb2.CallRequest) -> actions.Action:
        """The action that a call asks for, if its caller may make it; the name of who asks is put right.

        Raises:
            NotAllowedError: it would change what is somebody else's.
            UsageError: there is no such action, or its arguments cannot be read.
        """
        principal = callers.current()
        args = _read_args(request)
        action = actions.resolve(request.action, args)
        check_job = partial(owners.check, self._readers, principal)
        effects.check(principal, request.action, action.effect, args, check_job)
        if _is_sql(request.action):
            template, *values = args if request.action == "fetch" else (request.action, *args)
            private_tables.check_template(principal, template, values)
        request.user_name = principal.asker(request.user_name)
        return action

    def _threads_of(self, action: actions.Action, name: str) -> Executor:
        if action.is_deleting:
            return self._threads.deletions
        if action.is_writing:
            return self._threads.calls
        return self._threads.slow_calls if _is_slow(name) else self._threads.reads

    def _finish_for(
        self, action: actions.Action, request: engine_calls_pb2.CallRequest, tell: Tell, is_wanted: IsWanted
    ) -> None:
        if not is_wanted():  # the caller left while this waited for a thread
            tell(None, PeerUnreachableError("the caller has left"))
            return
        try:
            answer = self._finish(action, request, is_wanted)
        except Exception as exc:  # noqa: BLE001  told to the caller
            tell(None, exc)
        else:
            tell(answer, None)

    def _finish(
        self, action: actions.Action, request: engine_calls_pb2.CallRequest, is_wanted: IsWanted
    ) -> Answer:
        """Do a whole call, wait for it, and serialize the response."""
        if not action.is_writing:
            return self._read(action, request, is_wanted)
        return Answer(self._write(action, request), is_repeated=False)

    def _read(
        self, action: actions.Action, request: engine_calls_pb2.CallRequest, is_wanted: IsWanted
    ) -> Answer:
        place = self._threads.large_results.place()
        limits = ReadLimits(is_cancelled=lambda: not is_wanted(), place=place)
        if _is_sql(request.action):
            limits = dataclasses.replace(limits, largest_value_bytes=MAX_MADE_VALUE_BYTES)
        try:
            response = _respond(action.run(self._readers.session(request.user_name, limits)))
        except BaseException:
            place.give_back()
            raise
        return Answer(response, is_repeated=False, place=place)

    def _write(self, action: actions.Action, request: engine_calls_pb2.CallRequest) -> bytes:
        if action.is_alone:
            return _respond(self._writer.run_alone(action.run, request.user_name))
        left = _Left()
        answer = self._requests.run_once(
            request.request_id, _kind(request), _writing(action, left), user_name=request.user_name
        )
        files.remove(left.files, self._writer)
        self._reaper.wait_until_gone(left.jobs)
        return answer.result


def _about(request: engine_calls_pb2.CallRequest) -> audits.About:
    """What a call is about, as far as its arguments can be read."""
    try:
        args = list(map(engine_values.decode, request.args))
    except (TypeError, ValueError):
        args = []
    return audits.about_action(request.action, args, request.user_name)


def _audited(call: AuditedCall, request: engine_calls_pb2.CallRequest, tell: Tell) -> Tell:
    """Tell the audit log, too, how a call ends."""
    about = _about(request)
    loop = asyncio.get_running_loop()

    def tell_both(answer: Answer | None, error: Exception | None) -> None:
        if answer is None or not answer.is_repeated:
            loop.call_soon_threadsafe(call.note, *_outcome(about, answer, error))
        tell(answer, error)

    return tell_both


def _outcome(about: audits.About, answer: Answer | None, error: Exception | None) -> tuple[audits.About, int]:
    """What a call was about, and the number of the status code with which it ended."""
    if error is not None:
        is_ours = isinstance(error, QuakeGridError)
        code = status_codes.status_of(error) if is_ours else grpc.StatusCode.INTERNAL  # type: ignore[arg-type]
        return about, int(code.value[0])
    assert answer is not None
    result = engine_values.decode(engine_calls_pb2.CallResponse.FromString(answer.result).result)
    if about.action == "engine.create_job" and isinstance(result, int):
        about = dataclasses.replace(about, job_id=result)
    is_refused = isinstance(result, dict) and "error" in result  # as upstream's actions say it
    return about, int(grpc.StatusCode.FAILED_PRECONDITION.value[0]) if is_refused else 0


def _is_slow(action: str) -> bool:
    """Whether a read may take long: SQL from outside, or an action over all jobs or lines."""
    return action in _SLOW_ACTIONS or _is_sql(action)


def _is_sql(action: str) -> bool:
    return action == "fetch" or not action.isidentifier()


def _kind(request: engine_calls_pb2.CallRequest) -> str:
    return f"Call {request.action}"


class _Left:
    """What a call leaves to be removed when it is on the disk: files, and rows of jobs."""

    def __init__(self) -> None:
        self.files: list[DoomedFile] = []
        self.jobs: set[int] = set()


def _writing(action: actions.Action, left: _Left) -> Callable[[SqlSession], bytes]:
    """A call as work for the writer; `left` is filled when it is done."""

    def run(session: SqlSession) -> bytes:
        response = _respond(action.run(session))
        left.files = session.doomed_files  # the work is run again if another request fails
        left.jobs = session.marked_jobs
        return response

    return run


def _read_args(request: engine_calls_pb2.CallRequest) -> list[Any]:
    try:
        return list(map(engine_values.decode, request.args))
    except (TypeError, ValueError) as exc:
        raise UsageError(f"an argument of {request.action} cannot be read: {exc}") from exc


def _respond(result: Any) -> bytes:
    """A serialized `CallResponse`; parts of a result are put one behind the other."""
    if not isinstance(result, Parts):
        message = _encode(result)
        status_codes.check_size(len(message))
        return message
    messages: list[bytes] = []
    size_bytes = 0
    with contextlib.closing(result.values) as parts:
        for part in parts:
            messages.append(_encode(part))
            size_bytes += len(messages[-1])
            status_codes.check_size(size_bytes)
    return b"".join(messages)


def _encode(result: Any) -> bytes:
    response = engine_calls_pb2.CallResponse()
    try:
        engine_values.fill(response.result, result)
    except (TypeError, ValueError, OverflowError) as exc:
        raise UsageError(f"the result cannot be sent: {exc}") from exc
    return response.SerializeToString()
