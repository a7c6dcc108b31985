"""One connection of a driver with the broker: the calls of the service `Sessions`.

Decides nothing. Each try to reach a broker has a connection of its own, with a new certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from quakegrid.internal.v1 import sessions_pb2, sessions_pb2_grpc
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels


class SessionStream(Protocol):
    """The stream of a session, a call of gRPC. Its iterator raises `grpc.RpcError` when the stream breaks."""

    def initial_metadata(self) -> object:
        """Wait until the broker has taken the call."""

    def is_active(self) -> bool:
        """Whether the call goes on."""

    def __iter__(self) -> Iterator[sessions_pb2.OpenSessionResponse]:
        """The broker's messages."""

    def cancel(self) -> object:
        """End the call."""


class SessionLink(Protocol):
    """A connection with the broker: a `BrokerLink`, or one of `testing.fake_broker`."""

    def open(self, request: sessions_pb2.OpenSessionRequest) -> SessionStream:
        """Ask for the session."""

    def flush_output(self, session_id: int, token: str, timeout_s: float) -> None:
        """Ask for what the workers have printed; raises `grpc.RpcError`, or ValueError if it is closed."""

    def close_session(self, session_id: int, token: str, timeout_s: float) -> None:
        """Tell of the session's end; raises like `flush_output`."""

    def tell_stages(self, request: sessions_pb2.TellStagesRequest, timeout_s: float) -> None:
        """Tell how far the driver is; raises like `flush_output`."""

    def close(self) -> None:
        """End the connection."""


Connect = Callable[[Settings], SessionLink]


class BrokerLink:
    """A channel to the broker.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._channel = grpc_channels.open_channel(settings.broker_address, settings.proof)
        self._stub = sessions_pb2_grpc.SessionsStub(self._channel)

    def open(self, request: sessions_pb2.OpenSessionRequest) -> SessionStream:
        """Ask for the session."""
        stream: SessionStream = self._stub.OpenSession(request)
        return stream

    def flush_output(self, session_id: int, token: str, timeout_s: float) -> None:
        """Ask for what the workers have printed."""
        request = sessions_pb2.FlushSessionOutputRequest(session_id=session_id, session_token=token)
        self._stub.FlushSessionOutput(request, timeout=timeout_s)

    def close_session(self, session_id: int, token: str, timeout_s: float) -> None:
        """Tell of the session's end."""
        request = sessions_pb2.CloseSessionRequest(session_id=session_id, session_token=token)
        self._stub.CloseSession(request, timeout=timeout_s)

    def tell_stages(self, request: sessions_pb2.TellStagesRequest, timeout_s: float) -> None:
        """Tell how far the driver is."""
        self._stub.TellStages(request, timeout=timeout_s)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()
