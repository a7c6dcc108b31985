"""What is made of gRPC's words for a connection that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid.api.v1 import nodes_pb2
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.nodes import link_failures
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.settings import config


def told(known: str, *checks: str) -> str:
    """The words for what is known, and for what to check in this order."""
    return f"{known}: check {', then '.join(checks)}"


AUTHKEY = "[dbserver] authkey of both machines"
# To check, if the broker does not know how the node proves what it is.
ANY_PROOF = f"{AUTHKEY} (if it joined by token, join again there: `agentctl join --token TOKEN`)"
UNKNOWN = nodes_pb2.NODE_PROOF_KIND_UNSPECIFIED
NO_ANSWER = told("no answer", "whether the machine is up", "a firewall between", "its address")
UNKNOWN_NAME = told("its name is not known here", "the name server or /etc/hosts", "the name")
BROKE = told("the connection broke", "whether its agent runs", "the network")
TO_ALL = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:1:"


@pytest.mark.parametrize(
    ("details", "words"),
    [
        (f"{TO_ALL} FD Shutdown", NO_ANSWER),
        (f"{TO_ALL} connect: Connection timed out (110)", NO_ANSWER),
        ("... recvmsg:Connection timed out", NO_ANSWER),
        (f"{TO_ALL} Failed to connect to remote host: Timeout occurred: FD Shutdown", NO_ANSWER),
        (
            f"{TO_ALL} Failed to connect to remote host: Connection refused",
            told("nothing listens there", "whether its agent runs", "its address and port"),
        ),
        (
            "... connect: No route to host (113)",
            told("no way there", "whether the machine is up", "its address", "a firewall between"),
        ),
        (
            "... connect: Network is unreachable (101)",
            told("no way there", "the network of this machine", "its address"),
        ),
        ("errors resolving n9:1909: [field:hostname lookup error]", UNKNOWN_NAME),
        ("DNS resolution failed for n9:1909: C-ares status", UNKNOWN_NAME),
        (
            f"{TO_ALL} Ssl handshake failed: SSL_ERROR_SSL: something new",
            told(
                "no encrypted connection could be made",
                "the agent's log",
                ANY_PROOF,
                "its address and port",
            ),
        ),
        (
            f"{TO_ALL} Handshake read failed (Endpoint closing)",
            told("it takes connections and does not answer", "whether its agent hangs", "its port"),
        ),
        ("Stream removed (Socket closed)", BROKE),
        ("... recvmsg:Connection reset by peer", BROKE),
        (
            "Stream removed (ping timeout)",
            told(
                "it stopped answering", "whether the machine is up", "whether its agent hangs", "the network"
            ),
        ),
        ("Cancelling all calls", "its agent is about to stop"),
        ("the agent is about to stop\nmore", "the agent is about to stop"),
        ("", ""),
    ],
)
def test_cause_has_what_is_known_and_what_to_check(details: str, words: str) -> None:
    """The likeliest cause first, and none that does not fit; what a service has said itself stays."""
    assert link_failures.cause_of(details, UNKNOWN) == words


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (nodes_pb2.NODE_PROOF_KIND_AUTHKEY, AUTHKEY),
        (
            nodes_pb2.NODE_PROOF_KIND_CERTIFICATE,
            "whether it must join again (there: `agentctl join --token TOKEN`)",
        ),
        (UNKNOWN, ANY_PROOF),
    ],
)
def test_what_to_check_fits_the_kind_of_node(kind: nodes_pb2.NodeProofKind.ValueType, check: str) -> None:
    """A node that joined by token has no authkey."""
    words = link_failures.cause_of(f"{TO_ALL} CERTIFICATE_VERIFY_FAILED", kind)

    assert words == told("its certificate is not of this cluster", check, "its address")


class FailingChannel:
    """A channel whose streams fail with a code and its words, after these messages."""

    def __init__(
        self, code: grpc.StatusCode, details: str, messages: tuple[orders_pb2.WatchResponse, ...] = ()
    ) -> None:
        self.messages = messages
        self.failure = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_options: self._call

    async def _call(self, *_args: Any, **_options: Any) -> AsyncIterator[orders_pb2.WatchResponse]:
        for message in self.messages:
            yield message
        raise self.failure

    async def close(self, _grace: object) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "", "its agent does not answer at n1:1909"),
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            "this agent is QuakeGrid 1.0.0 and speaks version 1 of the API",
            "this agent is QuakeGrid 1.0.0 and speaks version 1 of the API",
        ),
        (
            grpc.StatusCode.UNIMPLEMENTED,
            "Method not found!",
            "the agent at n1:1909 does not know what it was asked: it is older than QuakeGrid ",
        ),
        (
            grpc.StatusCode.INTERNAL,
            "Received RST_STREAM with error code 2",
            "a call of its agent at n1:1909 failed: Received RST_STREAM with error code 2",
        ),
        (grpc.StatusCode.UNKNOWN, "", "the agent at n1:1909 answered UNKNOWN"),
    ],
)
def test_agent_that_refuses_does_answer(
    code: grpc.StatusCode, details: str, reason: str, tmp_path: Path
) -> None:
    """By the code of its answer: what it says is not the words of a connection that failed."""
    assert watch(tmp_path, FailingChannel(code, details))[1][: len(reason)] == reason


def test_kind_of_node_is_known_after_it_was_lost(tmp_path: Path) -> None:
    """It has said what it has, while it was there."""
    status = nodes_pb2.AgentStatus(proof_kind=nodes_pb2.NODE_PROOF_KIND_CERTIFICATE)
    first = orders_pb2.WatchResponse(status=status)
    refused = f"{TO_ALL} CERTIFICATE_VERIFY_FAILED"

    was_reached, reason = watch(tmp_path, FailingChannel(grpc.StatusCode.UNAVAILABLE, refused, (first,)))

    assert was_reached
    assert "agentctl join" in reason
    assert "authkey" not in reason


class Deaf:
    """Hears nothing."""

    def hear(self) -> None:
        """Of a sign of life."""

    def on_status(self, *_args: object, **_named: object) -> None:
        """Of the agent."""


def watch(state_dir: Path, channel: Any) -> tuple[bool, str]:
    """Whether an agent was reached over a channel, and why that broke."""
    settings = config.load_settings(state_dir, {})
    ear: Any = Deaf()
    link = NodeLink(settings, "n1", "n1:1909", ear, open_channel=lambda *_args: channel)
    return asyncio.run(link._watch(ear))
