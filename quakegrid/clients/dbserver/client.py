"""The client of the dbserver: its connection, the engine's calls, and parts for jobs, logs and outputs.

Several threads may use the one connection. Calls that change something carry a request id, so that they can
be sent again and take effect once.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.engine_call_streams import EngineCallStreams
from quakegrid.clients.dbserver.jobs import JobsClient
from quakegrid.clients.dbserver.logs import LogsClient
from quakegrid.clients.dbserver.outputs import OutputsClient
from quakegrid.clients.retries import new_request_id
from quakegrid.internal.v1 import engine_calls_pb2
from quakegrid.jobs import engine_values
from quakegrid.settings.config import Settings

SERVICE = "dbserver"
# Far more than any call takes, so that a server that hangs is an error.
CALL_TIMEOUT_S = 60.0


class DbClient:
    """A connection to the dbserver.

    Args:
        settings: have the dbserver's address and the authkey or a credential.
        retry_s: how long a call is tried again while the dbserver does not answer; 0: one try.
    Every method raises `PeerUnreachableError` if the dbserver does not answer, and the error that the
    dbserver has sent (`NotFoundError`, `StateError`, `UsageError`) if it refuses.
    """

    def __init__(self, settings: Settings, retry_s: float = 0.0) -> None:
        self._settings = settings
        self.connection = Connection(
            SERVICE, settings.dbserver_address, settings.proof, timeout_s=CALL_TIMEOUT_S, retry_s=retry_s
        )
        self.jobs = JobsClient(self.connection)
        self.logs = LogsClient(self.connection)
        self.outputs = OutputsClient(self.connection)
        self._calls = EngineCallStreams(self.connection.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def user_name(self) -> str:
        """Whose jobs are one's own."""
        return self._settings.user_name

    def close(self) -> None:
        """Close the connection."""
        self._calls.close()
        self.connection.close()

    def call(self, action: str, *args: Any, user_name: str = "") -> Any:
        """Run one of upstream's named actions or SQL; rows come as `RowValue` and `TableValue`.

        Raises:
            TypeError: engine calls cannot carry an argument of this type.
        """
        request = engine_calls_pb2.CallRequest(
            request_id=new_request_id(), action=action, user_name=user_name
        )
        engine_values.fill_all(request.args, args)
        return engine_values.decode(self.connection.call(self._calls.call, request))
