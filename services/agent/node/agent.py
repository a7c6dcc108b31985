"""The agent's heart: orders to the template, its reports, and who is told of them.

Runs in one event loop. The roster decides which worker gets which core; this module starts and stops workers
and drivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from quakegrid.api.v1 import nodes_pb2
from quakegrid.errors import QuakeGridError
from quakegrid.internal.v1 import orders_pb2
from quakegrid.jobs import engine_values
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.settings.config import Settings
from services.agent.linux.exits import describe_exit, exit_code
from services.agent.node import status as node_status
from services.agent.node.blob_folders import BlobFolders, remove_abandoned
from services.agent.node.doors import request_checks
from services.agent.node.folders import NodeFolders
from services.agent.node.limits.limits import NodeLimits
from services.agent.node.membership import Membership
from services.agent.node.output import driver_logs
from services.agent.node.output.pipes import OutputPipes
from services.agent.node.serving import Serving
from services.agent.node.templates.templates import Templates
from services.agent.node.watchers import LAST_WORD, Changes, Watchers
from services.agent.orders import close_all, write_memfd
from services.agent.rules.roster import Life, Member, Roster

log = logging.getLogger("quakegrid.agent")
STOP_GRACE_S = 2.0
# Seconds for a whole stop: the grace, then time for killed processes and the template.
STOP_DEADLINE_S = STOP_GRACE_S + 1.0
# What a status tells of a driver's command line.
MAX_COMMAND_CHARS = 1000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FORK_FAILED_STATUS = 1 << 8  # as if it had ended with exit code 1

DriverEnd = Callable[[int, str], None]


class Agent:
    """Workers and drivers of this node.

    Args:
        settings: of the cluster.
        instance_id: of this agent's process.
        mark: in the environment of all that it starts.
    """

    def __init__(self, settings: Settings, instance_id: str, mark: str) -> None:
        self._settings = settings
        self.folders = NodeFolders(settings.state_dir)
        self.node = socket.gethostname()
        self._roster = Roster(sorted(os.sched_getaffinity(0)))
        self._blobs = BlobFolders(settings.state_dir)
        self.watchers = Watchers()
        self._commands: dict[str, str] = {}
        self._driver_ends: dict[str, DriverEnd] = {}
        self._driver_numbers = itertools.count(1)
        self.serving = Serving(settings, len(self._roster.cores), self)
        self.fleet_watch_count = 0  # streams of brokers
        self.instance_id = instance_id
        self.membership = Membership(settings, self)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._output = OutputPipes(self.node, self.watchers.publish_output, self.watchers.has_readers)
        self._is_stopping = False
        # Told to end: a worker that others terminate meanwhile, as some schedulers do, is not to blame.
        self.is_ending = False
        self._template = Templates(
            settings, mark, on_report=self._on_report, on_state=self.publish_status, on_lost=self._on_lost
        )
        self.limits = NodeLimits(settings, self.node, self._roster, lambda: self._template.pid)

    # --- the template

    @property
    def template_state(self) -> TemplateState:
        """What the template that takes orders can do."""
        return self._template.state

    def start_template(self) -> None:
        """Start the first template; its state is told to the watchers as it changes."""
        remove_abandoned()  # blobs of this user's agents that were killed together with their templates
        self._template.start()

    async def stop(self) -> None:
        """End every child, gently first, and the template."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_DEADLINE_S
        self._is_stopping = True
        for member in list(self._roster.members.values()):
            member.is_blameless, member.stop_reason = True, "stopped with its agent"
            self._end(member, is_forced=False)
        while self._roster.members and loop.time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait_for_change(), deadline - loop.time())
        self._template.stop(max(0.0, deadline - loop.time()) if self.template_state.is_ready else 0.0)

    def restart_template(self) -> None:
        """Start a template in place of the one that there is, which has no children."""
        self._template.restart()
        self.publish_status()

    async def wait_for_change(self) -> None:
        """Wait until the status changes, or a worker ended."""
        await self.watchers.next_change()

    def _on_report(self, packet: dict[str, Any]) -> None:
        match packet["report"]:
            case "forked":
                self._on_forked(packet["name"], packet["pid"])
            case "not_forked":
                self._on_not_forked(packet["name"], packet["reason"])
            case "exited":
                self._on_exited(packet["pid"], packet["status"], packet["peak_memory_bytes"])

    def _on_lost(self, names: Sequence[str], reason: str) -> None:
        """Children died with their template, or it never forked them."""
        for name in names:
            member = self._roster.members.pop(name, None)
            if member:
                self._report_exit(member, signal.SIGKILL, reason, 0)
        self.publish_status()

    # --- workers

    def start_workers(self, request: orders_pb2.StartWorkersRequest) -> list[Member]:
        """Fork workers, as many as cores are free.

        Raises:
            UsageError: the request is malformed.
            QuakeGridError: the template is not ready, or the node has no room for any.
        """
        request_checks.check_start_workers(request)
        if self._is_stopping or not self.template_state.is_ready:
            state = "stopping" if self._is_stopping else self.template_state
            raise QuakeGridError(f"the template of {self.node} is not ready: {state}")
        template = self._template.find(request.fingerprint)  # if none has it, the status tells the broker
        started: list[Member] = []
        self._roster.most_count = self.serving.core_count
        for ref in request.workers if template else ():
            width = self.limits.cores_per_worker * (request.width or 1)
            started += self._roster.take_cores(ref.session_id, [ref.worker_id], width)
        if not started:
            return []
        ordered: list[Member] = []
        try:
            self._order_workers(started, request, template, ordered)
        except (OSError, QuakeGridError) as exc:
            log.warning("workers_not_started count=%d reason=%s", len(started) - len(ordered), exc)
            for member in started[len(ordered) :]:
                del self._roster.members[member.name]
                self._clean_up(member)
            if not ordered:
                raise QuakeGridError(f"{self.node} could not start workers: {exc}") from None
        self.publish_status()
        return ordered

    def _order_workers(
        self,
        members: Sequence[Member],
        request: orders_pb2.StartWorkersRequest,
        template: int,
        ordered: list[Member],
    ) -> None:
        """Order workers from a template, and note in `ordered` which ones were."""
        tokens = {ref.worker_id: ref.token for ref in request.workers}
        setup_fd = write_memfd("worker_setup", request.worker_setup)
        try:
            for member in members:
                worker = {
                    "worker_id": member.name,
                    "session_id": member.session_id,
                    "lane_endpoint": request.lane_endpoint,
                    "node": self.node,
                    "token": tokens[member.name],
                    **self.limits.open_worker(member),
                    "blob_dir": str(self._blobs.open(member.session_id)),
                }
                writers = self._output.open(member.name, member.session_id)
                order = {"order": "fork_worker", "name": member.name, "worker": worker}
                try:
                    self._template.order(order, [setup_fd, *writers], number=template)
                finally:
                    close_all(writers)
                ordered.append(member)
        finally:
            os.close(setup_fd)

    def kill_overdue(self, session_id: int, names: Sequence[str], reason: str) -> int:
        """Kill workers for what they run; returns how many there were."""
        members = [
            each for each in self._roster.of_session(session_id, names) if each.life is not Life.STOPPING
        ]
        for member in members:
            member.stop_reason = reason
            self._stop_for_limit(member)
        return len(members)

    def stop_workers(self, session_id: int, names: Sequence[str], *, is_forced: bool) -> int:
        """Terminate workers, then kill what is left; returns how many there were."""
        members = self._roster.on_stop(session_id=session_id, names=names)
        for member in members:
            self._end(member, is_forced=is_forced)
        return len(members)

    async def watch_memory(self) -> None:
        """Stop workers that take too much, and tell of a node that is short of memory, for ever."""
        await self.limits.watch(self._stop_for_limit, self.publish_status)

    def _stop_for_limit(self, member: Member) -> None:
        log.warning("worker_stopped worker=%s reason=%s", member.name, member.stop_reason)
        self._signal(member, signal.SIGKILL)

    def kill_workers(self) -> None:
        """Kill every worker, whoever's it is."""
        for member in self._roster.workers:
            member.is_blameless, member.stop_reason = True, "stopped by request"
            self._end(member, is_forced=True)

    @property
    def worker_count(self) -> int:
        """Workers that run, start or end."""
        return len(self._roster.workers)

    @property
    def driver_count(self) -> int:
        """Drivers that run, start or end."""
        return len(self._roster.drivers)

    # --- drivers

    def start_driver(
        self, request: dict[str, Any], events_fd: int, stdio: Sequence[int], on_end: DriverEnd
    ) -> str:
        """Fork a driver; `on_end` is called with its exit code, and why if it never ran. Returns its name.

        Args:
            request: `argv`, `cwd`, `environ`, `mode` of the command line, checked.
            events_fd: where the driver writes its events.
            stdio: descriptors for 0, 1 and 2; in mode "run" they are not used, but the drivers' log is.
            on_end: called once.
        Raises:
            QuakeGridError: no driver can be started; nothing is left of it.
        """
        if self.driver_refusal:
            raise QuakeGridError(self.driver_refusal)
        command = engine_values.well_formed(" ".join(request["argv"])[:MAX_COMMAND_CHARS])
        data = json.dumps(request).encode()
        name = f"driver-{next(self._driver_numbers)}"
        logs: list[int] = []
        try:
            if request["mode"] == "run":
                stdio = logs = driver_logs.open_stdio(self._settings.log_dir)
            self._order_driver(name, data, [events_fd, *stdio])
        except OSError as exc:
            raise QuakeGridError(f"{self.node} could not start a driver: {exc}") from None
        finally:
            close_all(logs)
        self._commands[name] = command
        self._driver_ends[name] = on_end
        self.publish_status()
        return name

    @property
    def driver_refusal(self) -> str:
        """Why no driver can be started here; empty if one can, now or when the template has loaded."""
        if self._is_stopping:
            return "the agent is about to stop"
        if self.template_state.kind is TemplateKind.FAILED:
            return f"the template {self.template_state}"
        return self._template.loaded.engine_missing

    def _order_driver(self, name: str, request: bytes, fds: Sequence[int]) -> None:
        """Enter a driver and order it; it is not entered if it cannot be ordered."""
        request_fd = write_memfd("driver_request", request)
        self._roster.add_driver(name)
        try:
            self._template.order({"order": "fork_driver", "name": name}, [request_fd, *fds])
        except (OSError, QuakeGridError):
            del self._roster.members[name]
            raise
        finally:
            os.close(request_fd)

    def signal_driver(self, name: str, number: int) -> None:
        """Pass a signal on to a driver; one that would stop it stops it also before it is forked."""
        member = self._roster.members.get(name)
        if member and member.pid:
            self._signal(member, number)
        elif member and number in STOP_SIGNALS:
            member.life = Life.STOPPING
            on_end = self._driver_ends.pop(name, None)  # with a second signal it was told before
            if on_end:
                on_end(128 + number, "")

    def stop_driver(self, pid: int) -> bool:
        """Kill a driver; tells whether there was one. One that is not forked yet has no pid."""
        for member in self._roster.drivers:
            if member.pid == pid > 0:
                self._end(member, is_forced=True)
                return True
        return False

    def end_driver(self, name: str) -> None:
        """Terminate a driver whose command line is gone."""
        member = self._roster.members.get(name)
        if member:
            self._end(member, is_forced=False)

    # --- what is told to others

    def watch(self) -> Changes:
        """A queue that starts with the status and gets every change."""
        return self.watchers.add(orders_pb2.WatchResponse(status=self.status()))

    def end_watches(self) -> None:
        """Tell those who watch that nothing more will come."""
        self.watchers.publish(LAST_WORD)

    def flush_output(self, session_id: int) -> None:
        """Tell those who watch what the workers of a session have printed, and that this is all."""
        self._output.flush(session_id)

    def status(self, *, with_samples: bool = False) -> nodes_pb2.AgentStatus:
        """The node as it is now; `with_samples` also what it uses, which costs some milliseconds."""
        status = node_status.describe(self._roster, self._commands, self._template, self.serving)
        status.node, status.instance_id = self.node, self.instance_id
        status.is_watched = self.fleet_watch_count > 0
        status.master, status.is_leaving = self.membership.master, self.membership.is_leaving
        self.limits.describe(status, with_samples=with_samples)
        return status

    # --- inside

    def _end(self, member: Member, *, is_forced: bool) -> None:
        """Terminate a member and kill it after a grace; kill at once when forced."""
        member.life = Life.STOPPING
        if not member.pid:
            return  # `_on_forked` sees that it is stopping
        self._signal(member, signal.SIGKILL if is_forced else signal.SIGTERM)
        if not is_forced and member.name not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[member.name] = loop.call_later(STOP_GRACE_S, self._signal, member, signal.SIGKILL)

    def _signal(self, member: Member, number: int) -> None:
        self._template.order({"order": "signal", "pid": member.pid, "signal": int(number)})

    def _on_forked(self, name: str, pid: int) -> None:
        member = self._roster.on_forked(name, pid)
        if member.life is Life.STOPPING:
            self._end(member, is_forced=True)

    def _on_not_forked(self, name: str, reason: str) -> None:
        log.error("fork_failed name=%s reason=%s", name, reason)
        member = self._roster.members.pop(name, None)
        if member is None:
            return
        self._report_exit(member, FORK_FAILED_STATUS, f"{self.node} could not start it: {reason}", 0)
        self.publish_status()

    def _on_exited(self, pid: int, status: int, peak_memory_bytes: int) -> None:
        member = self._roster.on_exited(pid)
        if member:
            self._report_exit(member, status, describe_exit(status), peak_memory_bytes)
            self.publish_status()

    def _report_exit(self, member: Member, status: int, reason: str, peak_memory_bytes: int) -> None:
        timer = self._timers.pop(member.name, None)
        if timer:
            timer.cancel()
        self._commands.pop(member.name, None)
        if member.pid:
            self.folders.remove_of(member.pid)
        on_end = self._driver_ends.pop(member.name, None)
        if on_end:
            on_end(exit_code(status), reason if member.pid == 0 else "")
            return
        if member.core < 0:
            return  # a driver that was stopped before it was forked
        if self.is_ending and os.WTERMSIG(status) == signal.SIGTERM:
            member.is_blameless = True
        last_output, limit_reason = self._clean_up(member)
        reason = limit_reason or reason
        is_clean = status == 0 or member.life is Life.STOPPING
        if not is_clean:
            words = "worker_exited worker=%s reason=%s peak_memory_bytes=%d"
            log.warning(words, member.name, reason, peak_memory_bytes)
        exited = node_status.describe_exit(member, status, reason, () if is_clean else last_output)
        exited.is_clean, exited.peak_memory_bytes = is_clean, peak_memory_bytes
        self.watchers.publish(orders_pb2.WatchResponse(worker_exited=exited))

    def _clean_up(self, member: Member) -> tuple[list[str], str]:
        """Free what a worker had; returns the end of its stderr, and which limit ended it."""
        if all(worker.session_id != member.session_id for worker in self._roster.workers):
            self._blobs.remove(member.session_id)
        return self._output.close(member.name), self.limits.close_worker(member)

    def publish_status(self) -> None:
        """Tell who watches."""
        self.watchers.publish(orders_pb2.WatchResponse(status=self.status()))
