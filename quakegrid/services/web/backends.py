"""What the web service asks: the dbserver and the broker, over gRPC in its event loop."""

from __future__ import annotations

import asyncio
import getpass
from typing import Any, Self

from quakegrid.access.proofs import ClusterKeys, Keyring
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2_grpc, logs_pb2_grpc
from quakegrid.clients.retries import new_request_id
from quakegrid.internal.v1 import engine_calls_pb2
from quakegrid.jobs import engine_values
from quakegrid.jobs.engine_values import RowValue
from quakegrid.machine.service_life import Life
from quakegrid.services.web.access.logins import Logins
from quakegrid.services.web.engine_views import EngineViews
from quakegrid.services.web.live.events import EventFeed
from quakegrid.services.web.live.feed import beat_for_ever
from quakegrid.services.web.live.fleet import FleetFeed
from quakegrid.services.web.live.jobs import JobFeed
from quakegrid.services.web.live.tasks import TaskFeeds
from quakegrid.services.web.persons.removals import Removals
from quakegrid.services.web.service_link import ServiceLink
from quakegrid.services.web.uploads import sweeping
from quakegrid.services.web.uploads.inputs import Inputs
from quakegrid.services.web.uploads.store import FileStore
from quakegrid.settings.config import Settings

# An abort answers when the job's processes are gone, which may take a kill.
ABORT_TIMEOUT_S = 60.0
_ENGINE_CALL = f"/{engine_calls_pb2.DESCRIPTOR.services_by_name['EngineCalls'].full_name}/Call"


class Backends:
    """The services of one cluster, and what is followed of them for all pages at once.

    Args:
        settings: of the cluster.
        life: of this service, which ends if following fails for a fault of ours.
    """

    def __init__(self, settings: Settings, life: Life) -> None:
        keyring = settings.keyring or Keyring(ClusterKeys(""))
        self.dbserver = ServiceLink("dbserver", settings.dbserver_address, keyring)
        self.broker = ServiceLink("broker", settings.broker_address, keyring)
        self.jobs, self.fleet = JobFeed(self.dbserver.open), FleetFeed(self.broker.open)
        self.events, self.tasks = EventFeed(self.broker.open), TaskFeeds(self.broker.open)
        self.logins = Logins(self.dbserver, keyring)
        self.views = EngineViews(settings)
        self.inputs = Inputs(settings, getpass.getuser())
        self.store = FileStore(self.inputs, settings.web_quota_bytes)
        self.removals = Removals(self.inputs, self.engine_call, self.views.run)
        self._keep_days, self._life = settings.web_keep_inputs_days, life

    async def __aenter__(self) -> Self:
        """Begin to follow."""
        self._life.keep(self.jobs.follow_source(), "jobs")
        self._life.keep(self.fleet.follow_source(), "fleet")
        self._life.keep(self.events.follow_source(), "events")
        self._life.keep(self.logins.follow_source(), "logins")
        self._life.keep(beat_for_ever((self.jobs, self.fleet, self.events)), "beats")
        sweep = sweeping.sweep_for_ever(self.inputs, self._row, self.removals.inputs, self._keep_days)
        self._life.keep(sweep, "inputs")
        self._life.keep(sweeping.sweep_files_for_ever(self.store, self._keep_days), "files")
        self._life.keep(self.removals.follow(), "left files")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Let go of all connections."""
        await asyncio.gather(self.dbserver.close(), self.broker.close())

    def end_streams(self) -> None:
        """End what pages follow; their browsers come back to the next service."""
        self.jobs.end()
        self.fleet.end()
        self.events.end()
        self.tasks.end()

    @property
    def jobs_stub(self) -> jobs_pb2_grpc.JobsAsyncStub:
        """Calls about jobs."""
        return jobs_pb2_grpc.JobsStub(self.dbserver.open())

    @property
    def logs_stub(self) -> logs_pb2_grpc.LogsAsyncStub:
        """Calls about logs."""
        return logs_pb2_grpc.LogsStub(self.dbserver.open())

    async def engine_call(self, action: str, *args: Any, user_name: str = "") -> Any:
        """Run one of upstream's named actions on the database.

        Raises:
            QuakeGridError: the dbserver refuses, or does not answer.
        """
        return self.read_answer(await self.engine_answer(action, *args, user_name=user_name))

    async def engine_answer(self, action: str, *args: Any, user_name: str = "") -> bytes:
        """The same, but what came back is not decoded: equal answers have equal bytes.

        Raises:
            QuakeGridError: the dbserver refuses, or does not answer.
        """
        request = engine_calls_pb2.CallRequest(
            request_id=new_request_id(), action=action, user_name=user_name
        )
        engine_values.fill_all(request.args, args)
        method = self.dbserver.open().unary_unary(
            _ENGINE_CALL, engine_calls_pb2.CallRequest.SerializeToString, None
        )
        answer: bytes = await self.dbserver.call(method, request)
        return answer

    @staticmethod
    def read_answer(answer: bytes) -> Any:
        """The value in what `engine_answer` gave."""
        return engine_values.decode(engine_calls_pb2.CallResponse.FromString(answer).result)

    async def _row(self, job_id: int) -> RowValue | None:
        row: RowValue | None = await self.engine_call("get_job", job_id)
        return row

    async def abort_job(self, job_id: int, user_name: str) -> bool:
        """Abort a job wherever it runs; False if it had ended.

        Raises:
            QuakeGridError: the broker refuses, or does not answer.
        """
        stub = fleet_pb2_grpc.FleetStub(self.broker.open())
        request = fleet_pb2.AbortJobRequest(job_id=job_id, user_name=user_name)
        return (await self.broker.call(stub.AbortJob, request, ABORT_TIMEOUT_S)).was_running
