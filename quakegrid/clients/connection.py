"""A connection to one service: its channel, time-outs, retries, and our errors in place of gRPC's.

The clients are thin: they make a request, pass a method of a stub to `call`, `stream` or `follow`, and decode
the response. Does not depend on any service.
"""

from __future__ import annotations

import datetime
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import grpc

from quakegrid import errors
from quakegrid.access.proofs import Certified, Proof
from quakegrid.clients import retries
from quakegrid.clients.retries import Retries
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from quakegrid.transport.old_keys import OLD_UNTIL

Request = TypeVar("Request")
Response = TypeVar("Response")

# How often `call_while` reports that it still waits.
WAITING_STEP_S = 0.1


class Connection:
    """A channel to one service, usable from several threads; it connects when it is first used.

    Every failure raises one of our errors, with gRPC's own as its `__cause__`: `PeerUnreachableError` if the
    service does not answer, and the error that the service has sent if it refuses.

    Args:
        service: "dbserver", "broker" or "agent", as messages name it.
        address: its `host:port`.
        proof: the authkey, or a certificate that we were given.
        node: the node whose agent must answer; empty for a service that has the authkey.
        timeout_s: of a call that names no other time-out.
        retry_s: how long a call is tried again while the service does not answer; 0 for one try.
    """

    __slots__ = ("_is_persons", "_retry_s", "_timeout_s", "address", "channel", "service")

    def __init__(
        self,
        service: str,
        address: str,
        proof: Proof,
        *,
        node: str = "",
        timeout_s: float,
        retry_s: float = 0.0,
    ) -> None:
        self.service, self.address = service, address
        self._timeout_s, self._retry_s = timeout_s, retry_s
        self._is_persons = isinstance(proof, Certified)  # calculations and nodes renew theirs by themselves
        self.channel = grpc_channels.open_channel(address, proof, node)

    def close(self) -> None:
        """Close the channel; calls that run fail."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def call(self, method: Callable[..., Response], request: Any, timeout_s: float | None = None) -> Response:
        """Call a method that gives one response. The call is tried again for `retry_s`.

        Args:
            method: of a stub on `channel`.
            request: carries a request id if the call must not take effect twice.
            timeout_s: of each try; None for that of the connection.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        patience = Retries(self._retry_s)
        while True:
            try:
                if self._is_persons:
                    return _call_and_tell(method, request, timeout_s)
                return method(request, timeout=timeout_s)
            except grpc.RpcError as exc:
                if not patience.may_go_on(exc):
                    raise self.error(exc) from exc

    def call_while(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        on_wait: Callable[[], None],
    ) -> Response:
        """Call once and without a time-out; `on_wait` is called again and again meanwhile.

        If `on_wait` raises, the wait ends, and the service goes on with the call.
        """
        future = method.future(request)
        try:
            while True:
                try:
                    return future.result(timeout=WAITING_STEP_S)
                except grpc.FutureTimeoutError:
                    on_wait()
                except grpc.RpcError as exc:
                    raise self.error(exc) from exc
        finally:
            future.cancel()  # type: ignore[no-untyped-call]

    def stream(
        self,
        method: Callable[..., grpc.CallIterator[Response]],
        request: Any,
        timeout_s: float | None = None,
    ) -> Iterator[Response]:
        """The responses of a method, as they come. The call is not tried again.

        Args:
            method: of a stub on `channel`.
            request: one message, or an iterator of them if the method takes a stream.
            timeout_s: of the whole stream; None for none.
        """
        stream = method(request, timeout=timeout_s)
        try:
            yield from stream
        except grpc.RpcError as exc:
            raise self.error(exc) from exc
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]

    def follow(self, open_stream: Callable[[], grpc.CallIterator[Response]]) -> Iterator[Response]:
        """The responses of a stream. A stream that breaks is opened again, and goes on where it broke.

        Args:
            open_stream: opens the stream so that it goes on after the responses that have come.
        """
        patience = Retries(self._retry_s)
        while True:
            stream = open_stream()
            try:
                for response in stream:
                    patience = Retries(self._retry_s)
                    yield response
            except grpc.RpcError as exc:
                if not patience.may_go_on(exc):
                    raise self.error(exc) from exc
            else:
                return
            finally:
                stream.cancel()  # type: ignore[no-untyped-call]

    def error(self, exc: grpc.RpcError) -> errors.QuakeGridError:
        """Our error for a failed call."""
        return grpc_channels.translate(exc, self.service, self.address)


def _call_and_tell(method: Callable[..., Response], request: Any, timeout_s: float) -> Response:
    """Call as a person, and tell this person, once, if the credential will end with the cluster's old key."""
    answered: tuple[Response, grpc.Call] = method.with_call(request, timeout=timeout_s)  # type: ignore[attr-defined]
    response, call = answered
    told = dict(call.trailing_metadata() or ()).get(OLD_UNTIL)
    if told:
        _tell_old_key(str(told))
    return response


@functools.cache
def _tell_old_key(until_s: str) -> None:
    try:
        until_time = datetime.datetime.fromtimestamp(float(until_s), datetime.UTC)
    except (ValueError, OverflowError, OSError):  # no time
        return
    print(
        "the authkey of the cluster was changed, so your credential counts only until "
        f"{until_time:%Y-%m-%d %H:%M} UTC; ask an admin for a new one (`quakegrid user renew NAME`), then "
        "`quakegrid login FILE`",
        file=sys.stderr,
    )


def to_broker(settings: Settings, timeout_s: float, retry_s: float = 0.0) -> Connection:
    """A connection to the broker, whose calls are tried for a while, once if that is 0."""
    return Connection("broker", settings.broker_address, settings.proof, timeout_s=timeout_s, retry_s=retry_s)


def to_agent(settings: Settings, host: str, timeout_s: float) -> Connection:
    """A connection to the agent of a host, whose calls are tried once.

    A node that has a certificate asks its own agent only, wherever that listens.
    """
    node = settings.node_name or host
    address = f"{host}:{settings.agent_port}"
    return Connection("agent", address, settings.proof, node=node, timeout_s=timeout_s)


def is_out_of_time(error: errors.QuakeGridError) -> bool:
    """Whether a call of a connection failed because its time was over."""
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and cause.code() in grpc_channels.OUT_OF_TIME


def is_transient(error: errors.QuakeGridError) -> bool:
    """Whether a call of a connection that failed may succeed later."""
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and retries.is_transient(cause)
