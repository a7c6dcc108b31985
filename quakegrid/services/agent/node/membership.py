"""Which fleet the node joined. It asks the broker of its master to watch it whenever no broker does.

So a broker that was started again has its nodes back within seconds, and does not have to remember them. The
node remembers its master in its state directory until it leaves. Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import grpc

from quakegrid import errors
from quakegrid.doctor import probes
from quakegrid.doctor.checks import network_checks
from quakegrid.doctor.facts import PortFacts, PortState
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc
from quakegrid.machine import node_state
from quakegrid.services.agent.node.doors import request_checks
from quakegrid.settings import node_files
from quakegrid.settings.config import LOOPBACK, Settings
from quakegrid.transport import grpc_channels

T = TypeVar("T")

log = logging.getLogger("quakegrid.agent")
# Longer than a broker takes to find the nodes of its configuration.
ASK_AFTER_S = 4
ASK_TIMEOUT_S = 10.0
# How long an agent that ends waits for the master's answer.
LAST_LEAVE_TIMEOUT_S = 2.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


class Watched(Protocol):
    """The agent, as membership needs it."""

    @property
    def instance_id(self) -> str:
        """The id of this agent's process."""

    @property
    def fleet_watch_count(self) -> int:
        """Brokers that watch the node."""

    def publish_status(self) -> None:
        """Tell the watchers the node's present status."""


class Membership:
    """The fleet that the node joined, if it did.

    `port` is where its master reaches the agent.

    Args:
        settings: of the cluster.
        agent: of the node.
    """

    def __init__(self, settings: Settings, agent: Watched) -> None:
        self._settings, self._agent = settings, agent
        self.master = node_state.read(settings.state_dir).master
        self.port = settings.agent_port
        self.is_leaving = False
        self._leaving: asyncio.Task[str] | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Ask the master to watch this node whenever no broker does; does not return."""
        unwatched_s = ASK_AFTER_S
        while True:
            is_alone = self.master and not self.is_leaving and not self._agent.fleet_watch_count
            unwatched_s = unwatched_s + 1 if is_alone else 0
            if unwatched_s > ASK_AFTER_S:
                unwatched_s = 0
                await self._ask_again()
            await asyncio.sleep(1)

    async def join(self, master: str) -> membership_pb2.JoinNodeResponse:
        """Become a member of a master's fleet.

        Args:
            master: host of its broker, with `:port` if that is not the configured one.
        Raises:
            UsageError: `master` is no name of a host.
            StateError: the node is a member of another fleet, or the master cannot reach it.
            PeerUnreachableError: the broker does not answer.
        """
        request_checks.check_master(master)
        address = self.address_of(master)
        if self.master not in ("", address):
            raise errors.StateError(f"the node is a member of {self.master}: `agentctl leave` first")
        response = await self._ask(address)
        if not response.is_configured:
            self.remember(address)
        return response

    async def leave(self, *, is_forced: bool) -> str:
        """Leave the fleet when the workers have ended; returns the master's address.

        Args:
            is_forced: leave without asking the master.
        Raises:
            StateError: the node joined no fleet, or is configured there.
            PeerUnreachableError: the broker does not answer; the node stays a member.
        """
        master = self.master
        if not master:
            raise errors.StateError(
                "the node joined no fleet; if the master's host_cores names it, take it out there, "
                "or `agentctl stop`"
            )
        self.is_leaving = True
        self._agent.publish_status()
        try:
            if not is_forced:
                host = (await self._ask(master)).host
                await self._call(
                    master, lambda stub: stub.LeaveNode(membership_pb2.LeaveNodeRequest(host=host))
                )
            self.remember("")
        finally:
            self.is_leaving = False
            self._agent.publish_status()
        return master

    async def start_leaving(self, within_s: float, hurried: asyncio.Event) -> None:
        """Leave the fleet before the agent ends.

        Returns when the node has left, when the time is over, or when `hurried` is set.
        """
        if not self.master:
            return
        log.info("leaving master=%s within_s=%g", self.master, within_s)
        self._leaving = asyncio.create_task(self.leave(is_forced=False))
        hurry = asyncio.create_task(hurried.wait())
        await asyncio.wait({self._leaving, hurry}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()

    async def finish_leaving(self) -> None:
        """Wait for the end of leaving. The master waits until no worker is left, which is so now."""
        if self._leaving is None:
            return
        try:
            await asyncio.wait_for(self._leaving, LAST_LEAVE_TIMEOUT_S)
        except (errors.QuakeGridError, TimeoutError) as exc:
            log.warning("not_left master=%s reason=%s", self.master, exc or "it does not answer in time")

    def remember(self, master: str) -> None:
        """Belong to this master's fleet from now on; to no fleet if `master` is empty."""
        self.master = master
        log.info("member_of master=%s", master or "none")
        try:
            node_state.change(self._settings.state_dir, master=master)
        except OSError as exc:
            log.warning("not_remembered master=%s reason=%s", master, exc)
        self._agent.publish_status()

    def address_of(self, master: str) -> str:
        """The address of a master's broker."""
        return master if ":" in master else f"{master}:{self._settings.broker_port}"

    async def _ask_again(self) -> None:
        try:
            await self._ask(self.master)
        except errors.QuakeGridError as exc:
            if str(exc) != self._trouble:  # each reason once
                log.warning("not_joined master=%s reason=%s", self.master, exc)
            self._trouble = str(exc)
        else:
            log.info("joined master=%s", self.master)
            self._trouble = ""

    async def _ask(self, master: str) -> membership_pb2.JoinNodeResponse:
        address = await asyncio.to_thread(own_address, self._settings, master)
        request = membership_pb2.JoinNodeRequest(
            host=self._settings.node_name or address,
            port=self.port,
            instance_id=self._agent.instance_id,
            address=address,
        )
        return await self._call(master, lambda stub: stub.JoinNode(request, timeout=ASK_TIMEOUT_S))

    async def _call(
        self, master: str, call: Callable[[membership_pb2_grpc.MembershipAsyncStub], Awaitable[T]]
    ) -> T:
        channel = grpc_channels.open_aio_channel(master, self._settings.proof)
        try:
            return await call(membership_pb2_grpc.MembershipStub(channel))
        except grpc.aio.AioRpcError as exc:
            error = grpc_channels.translate(exc, "broker", master)
            if isinstance(error, errors.PeerUnreachableError):
                error = await asyncio.to_thread(_why_unreachable, self._settings, master)
            raise error from None
        finally:
            await channel.close(None)


def _why_unreachable(settings: Settings, master: str) -> errors.QuakeGridError:
    """The error with the cause.

    It is our certificate, which has ended, a firewall, another authkey, a wrong clock, or no broker there.
    """
    try:
        if settings.node_name and (file := node_files.read(settings.state_dir)):
            file.check(datetime.datetime.now(datetime.UTC))
    except errors.CredentialError as exc:
        return exc
    host, _, number = master.rpartition(":")
    port = PortFacts("broker", host, int(number))
    state = probes.look_at_port(port, settings.proof)
    if state is PortState.OPEN:  # the broker is slow, or was not there a moment ago
        return grpc_channels.unreachable("broker", master)
    finding = network_checks.check_port(replace(port, state=state), "")
    return errors.PeerUnreachableError(f"{finding.what}: {finding.remedy}")


def own_address(settings: Settings, master: str) -> str:
    """The address under which a master reaches this node's agent.

    Args:
        settings: say where the agent listens.
        master: `host:port` of the broker.
    Raises:
        PeerUnreachableError: the master's name is unknown here, or there is no route to it.
        StateError: the agent listens on loopback only, and the master is elsewhere.
    """
    host, _, port = master.rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, int(port)))  # sends nothing, only finds the route
            route, peer = probe.getsockname()[0], probe.getpeername()[0]
    except (OSError, ValueError, OverflowError) as exc:
        raise errors.PeerUnreachableError(f"no way from here to the master {master}: {exc}") from None
    listen = settings.agent_listen
    if listen.startswith("127.") and not ipaddress.ip_address(peer).is_loopback:
        raise errors.StateError(
            f"the agent listens on {listen} only, where {host} cannot reach it: put the master as [dbserver] "
            "host into openquake.cfg, or give [agent] listen, and start the agent again"
        )
    if listen in EVERYWHERE:
        return str(route) if not ipaddress.ip_address(peer).is_loopback else LOOPBACK
    return listen
