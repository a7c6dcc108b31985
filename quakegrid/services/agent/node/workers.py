"""Starts and stops workers, as the broker and the node's limits ask. Runs in the agent's event loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from quakegrid.errors import QuakeGridError
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent import worker_keys
from quakegrid.services.agent.node.children import Children
from quakegrid.services.agent.node.serving import Serving
from quakegrid.services.agent.node.shares import WorkerShares
from quakegrid.services.agent.orders import ForkWorker, WorkerSpec
from quakegrid.services.agent.packets import close_all, write_memfd
from quakegrid.services.agent.rules.persons import Account
from quakegrid.services.agent.rules.roster import Member
from quakegrid.services.agent.rules.roster_events import (
    CoresServed,
    KillAsked,
    LimitBroken,
    MemberGone,
    StopAsked,
    WorkersAsked,
)

log = logging.getLogger("quakegrid.agent")


def asked_to_end(name: str, *, is_forced: bool) -> StopAsked | KillAsked:
    """The broker wants a worker to end: its task has no part in that, if it runs one."""
    event = KillAsked if is_forced else StopAsked
    return event(name, is_blameless=True)


class Workers:
    """The workers of this node.

    Args:
        node: name of this node.
        children: has their roster.
        serving: says how many cores they may have.
        shares: limits, blobs and pipes of each worker, opened before it is forked.
        on_change: called when the status changes.
    """

    def __init__(
        self,
        node: str,
        children: Children,
        serving: Serving,
        shares: WorkerShares,
        on_change: Callable[[], None],
    ) -> None:
        self._node, self._children, self._serving = node, children, serving
        self._shares, self._on_change = shares, on_change
        self._roster = children.roster

    def start(self, request: orders_pb2.StartWorkersRequest, account: Account | None = None) -> list[Member]:
        """Fork workers, as many as cores are free.

        Args:
            request: of the broker.
            account: as whom they run; None for the agent's own account.
        Raises:
            QuakeGridError: the template is not ready, or the node has no room for any.
        """
        templates = self._children.templates
        if self._children.is_stopping or not templates.state.is_ready:
            state = "stopping" if self._children.is_stopping else templates.state
            raise QuakeGridError(f"the template of {self._node} is not ready: {state}")
        # 0 if no template has what the session needs; the broker learns that from the status.
        template = templates.find(request.fingerprint)
        started: list[Member] = []
        self._children.handle(CoresServed(self._serving.core_count))
        for ref in request.workers if template else ():
            width = self._shares.cores_per_worker * (request.width or 1)
            started += self._children.handle(WorkersAsked(ref.session_id, (ref.worker_id,), width))
        if account is not None:
            self._children.accounts |= {member.name: account for member in started}
        if not started:
            return []
        ordered: list[Member] = []
        try:
            self._order(started, request, template, ordered)
        except (OSError, QuakeGridError) as exc:
            log.warning("workers_not_started count=%d reason=%s", len(started) - len(ordered), exc)
            for member in started[len(ordered) :]:
                self._children.handle(MemberGone(member.name))
                self._shares.close(member)
            if not ordered:
                raise QuakeGridError(f"{self._node} could not start workers: {exc}") from None
        self._on_change()
        return ordered

    def stop(self, session_id: int, names: Sequence[str], *, is_forced: bool) -> int:
        """End workers: ask, then kill after a grace; if forced, kill at once. Returns how many there were."""
        members = self._roster.of_session(session_id, names)
        for member in members:
            self._children.handle(asked_to_end(member.name, is_forced=is_forced))
        return len(members)

    def kill_overdue(self, session_id: int, names: Sequence[str], reason: str) -> int:
        """Kill workers whose task runs for too long; returns how many there were."""
        found = self._roster.of_session(session_id, names)
        members = [each for each in found if not each.is_ending]
        for member in members:
            self.kill_for_limit(member.name, reason)
        return len(members)

    def kill_for_limit(self, name: str, reason: str) -> None:
        """Kill a worker that went beyond a limit."""
        log.warning("worker_stopped worker=%s reason=%s", name, reason)
        self._children.handle(LimitBroken(name, reason))

    def kill_all(self) -> None:
        """Kill every worker of every session."""
        for member in self._roster.workers:
            self._children.handle(KillAsked(member.name, "stopped by request", is_blameless=True))

    def _order(
        self,
        members: Sequence[Member],
        request: orders_pb2.StartWorkersRequest,
        template: int,
        ordered: list[Member],
    ) -> None:
        """Order workers from a template; those that were ordered are added to `ordered`."""
        tokens = {ref.worker_id: ref.token for ref in request.workers}
        keys = request.lane_keys
        setup_fd = write_memfd("worker_setup", request.worker_setup)
        try:
            for member in members:
                account = self._children.accounts.get(member.name)
                share = self._shares.open(member, account)
                try:
                    spec = WorkerSpec(
                        worker_id=member.name,
                        session_id=member.session_id,
                        lane_endpoint=request.lane_endpoint,
                        node=self._node,
                        cores=share.limits.cores,
                        memory_bytes=share.limits.memory_bytes,
                        nice=share.limits.nice,
                        cgroup=share.limits.cgroup,
                        blob_dir=share.blob_dir,
                    )
                    keys_fd = write_memfd("worker_keys", worker_keys.encode(tokens[member.name], keys))
                    try:
                        fds = [keys_fd, setup_fd, *share.output_fds]
                        order = ForkWorker(member.name, spec, account)
                        self._children.templates.fork(order, fds, number=template)
                    finally:
                        os.close(keys_fd)
                finally:
                    close_all(share.output_fds)
                ordered.append(member)
        finally:
            os.close(setup_fd)
