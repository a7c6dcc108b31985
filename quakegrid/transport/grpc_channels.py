"""gRPC channels of a cluster: credentials, API versions of callers, and our errors in place of gRPC's.

Does not depend on a service.
"""

from __future__ import annotations

import functools
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from quakegrid import __version__, errors
from quakegrid.access import principals
from quakegrid.access.proofs import Proof
from quakegrid.settings import installation
from quakegrid.settings.agent_accounts import account_name
from quakegrid.transport import credentials, error_details
from quakegrid.transport.renewed_channels import RenewedChannel

CONNECT_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 64 << 20
# Version of all services and clients; raised when an older peer would misunderstand a newer one.
API_VERSION = 2

# The user agent, which each call has anyway; it tells a server the version of its caller.
_AGENT = f"quakegrid/{__version__} api/{API_VERSION}"
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # a minute by default, also for keepalives
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # one try to connect: packets may be lost
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # The default is two minutes, in which each silent stranger would hold an open file.
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # a minute by default, also for keepalives
)

_CALLER = re.compile(r"\bquakegrid/(\S+) api/(\d+)")
# A service cancels a call whose time is over. Its caller may hear that before its own time is over.
OUT_OF_TIME = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, *OUT_OF_TIME)
# From a service of ours that answers, and says in words why it cannot do this now. UNAVAILABLE is for gRPC,
# whose words mean nothing to people.
NOT_NOW = grpc.StatusCode.ABORTED
# In gRPC's own words: "Received message larger than max (… vs. …)", also "Sent message …".
_TOO_LARGE = "message larger than max"
_BY_CODE: dict[grpc.StatusCode, type[errors.QuakeGridError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.StateError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.UsageError,
}


class SameVersion(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses callers with another API version, and says why; other programs pass.

    Args:
        what: the service's name, as in "dbserver".
    """

    def __init__(self, what: str) -> None:
        self._what = what

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Pass a call on, or answer it."""
        metadata = dict(handler_call_details.invocation_metadata or ())
        caller = _CALLER.search(str(metadata.get("user-agent", "")))
        if caller is None or int(caller[2]) == API_VERSION:
            return await continuation(handler_call_details)
        refusal = errors.StateError(
            f"this {self._what} is QuakeGrid {__version__} and speaks version {API_VERSION} of the API, "
            f"who called it is QuakeGrid {caller[1]} and speaks version {caller[2]}; "
            "install the same QuakeGrid on all machines and restart its services"
        )

        async def refuse(_requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await error_details.abort(context, grpc.StatusCode.FAILED_PRECONDITION, refusal)

        return grpc.stream_stream_rpc_method_handler(refuse)  # waits for no request, whatever the method


def open_channel(address: str, proof: Proof, node: str = "") -> RenewedChannel:
    """A channel to a service of our cluster; it connects when first used, and may live for ever.

    Args:
        address: `host:port`.
        proof: the authkey, or a certificate that we were given.
        node: the node whose agent must answer; empty for a service that has the authkey.
    """
    return RenewedChannel(
        address, proof, (("grpc.primary_user_agent", _agent_of_this_account()), *_options(node))
    )


@functools.cache
def _agent_of_this_account() -> str:
    """The user agent, with the account for the audit log: whoever has the authkey has no name."""
    account = os.environ.get("SUDO_USER") or account_name(os.getuid()) or f"uid-{os.getuid()}"
    return f"{_AGENT} as/{account}" if principals.is_name(account) else _AGENT


def open_aio_channel(address: str, proof: Proof, node: str = "") -> grpc.aio.Channel:
    """As `open_channel`, for an event loop. The channel has one connection and lives less than 30 days."""
    options = (("grpc.primary_user_agent", _AGENT), *_options(node))
    return grpc.aio.secure_channel(address, credentials.channel_credentials(proof), options=options)


def bind(server: grpc.aio.Server, address: str, proof: Proof, words: tuple[str, str]) -> int:
    """Let a server listen at an address, behind mutual TLS; returns the port.

    Args:
        server: is not started.
        address: `host:port`; port 0 is any free one.
        proof: the authkey, or a certificate that we were given.
        words: the service, and the settings that choose the address, for people.
    Raises:
        QuakeGridError: the port is in use, or the address is not ours.
    """
    try:
        return server.add_secure_port(address, credentials.server_credentials(proof))
    except RuntimeError:
        what, keys = words
        raise errors.QuakeGridError(
            f"the {what} cannot listen on {address}: {_why_not_bound(address)}; stop what uses the port, or "
            f"see {keys} in openquake.cfg"
        ) from None


def _why_not_bound(address: str) -> str:
    """What the system says when a plain socket is bound to an address: gRPC does not tell it."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _name, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as exc:
        return exc.strerror or str(exc)
    return "the port was in use"


def _options(node: str) -> tuple[tuple[str, Any], ...]:
    """Options of a channel, with the name that the certificate of the server must have."""
    name = principals.node_dns_name(node) if node else principals.PEER_NAME
    return (*_OPTIONS, ("grpc.ssl_target_name_override", name))


def wait_until_ready(
    channel: grpc.Channel, address: str, what: str, timeout_s: float = CONNECT_TIMEOUT_S
) -> None:
    """Wait for the connection, handshake included.

    Raises:
        PeerUnreachableError: no service with our authkey answers at `address` in time.
    """
    try:
        grpc.channel_ready_future(channel).result(timeout=timeout_s)
    except grpc.FutureTimeoutError:
        raise unreachable(what, address) from None


def unreachable(what: str, address: str) -> errors.PeerUnreachableError:
    """The error for a service that does not answer."""
    start = installation.start_one_words(what.partition(" ")[0], address.rpartition(":")[0])
    return errors.PeerUnreachableError(
        f"the {what} at {address} does not answer: it is not running, a firewall is between, "
        "or its authkey differs from ours (`quakegrid status` shows what runs, "
        f"{start})"
    )


def translate(exc: grpc.RpcError, what: str, address: str) -> errors.QuakeGridError:
    """Turn a gRPC failure into one of our errors, with the service's own message.

    Args:
        exc: what a stub raised.
        what: the service's name, as in "dbserver".
        address: where it was called.
    """
    code, details = exc.code(), exc.details() or ""
    if code in NO_ANSWER:
        return unreachable(what, address) if code not in OUT_OF_TIME else _too_slow(what, address)
    if code is NOT_NOW and details:
        return errors.PeerUnreachableError(details)
    if is_too_large(exc):
        return errors.UsageError(
            f"the {what} at {address} sends and takes at most {MAX_MESSAGE_BYTES >> 20} MiB at once, "
            "and this would be more; ask for less"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.QuakeGridError(
            f"the {what} at {address} does not know what it was asked: it is older than QuakeGrid "
            f"{__version__} here; install the same QuakeGrid on all machines and restart its services"
        )
    kind = errors.BY_REASON.get(error_details.reason_of(exc)) or _BY_CODE.get(code, errors.QuakeGridError)
    return kind(details or f"the {what} at {address} answered {code.name}")


def is_of_service(exc: grpc.RpcError) -> bool:
    """Whether a service of ours has said what is wrong; otherwise gRPC has, which names no service."""
    return exc.code() in (NOT_NOW, *_BY_CODE) or bool(error_details.reason_of(exc))


def is_too_large(exc: grpc.RpcError) -> bool:
    """Whether gRPC at either end refused a message for its size, as it would each time."""
    is_exhausted = exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return is_exhausted and _TOO_LARGE in (exc.details() or "")


def _too_slow(what: str, address: str) -> errors.PeerUnreachableError:
    return errors.PeerUnreachableError(
        f"the {what} at {address} did not answer in time: it is busy or hangs, or the network loses what is "
        "sent; try again, and see its log and `quakegrid doctor` if it stays so"
    )
