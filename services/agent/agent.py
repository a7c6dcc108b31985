"""The agent's heart: orders to the template, its reports, and who is told of them.

Runs in one event loop. The roster decides which worker gets which core; this module starts, stops and
counts, and is the only one that does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid import __version__, agents, values
from quakegrid.api.v1 import agent_pb2
from quakegrid.config import Settings
from quakegrid.errors import QuakeGridError
from quakegrid.template_state import TemplateState
from services.agent import node_folders
from services.agent.blob_folders import BlobFolders, remove_abandoned
from services.agent.exits import describe_exit, exit_code
from services.agent.membership import Membership
from services.agent.node_limits import NodeLimits
from services.agent.output_pipes import OutputPipes
from services.agent.packets import write_memfd
from services.agent.roster import Life, Member, Roster
from services.agent.serving import Serving
from services.agent.templates import Templates

log = logging.getLogger("quakegrid.agent")
STOP_GRACE_S = 2.0
# Of all of a stop together: the grace, then what the killed and the template may take.
STOP_DEADLINE_S = STOP_GRACE_S + 1.0
# Messages that may wait for who watches; a slow one is told nothing more of what workers print.
MAX_WAITING_MESSAGES = 100
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# Ends the streams of those who watch.
LAST_WORD = agent_pb2.WatchResponse()
FORK_FAILED_STATUS = 1 << 8  # as if it had ended with exit code 1

DriverEnd = Callable[[int, str], None]


class Agent:
    """Workers and drivers of this node.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.node = socket.gethostname()
        self._roster = Roster(sorted(os.sched_getaffinity(0)))
        self._blobs = BlobFolders(settings.state_dir)
        self._watchers: set[asyncio.Queue[agent_pb2.WatchResponse]] = set()
        self._commands: dict[str, str] = {}
        self._driver_ends: dict[str, DriverEnd] = {}
        self._driver_numbers = itertools.count(1)
        self.serving = Serving(settings, len(self._roster.cores), self)
        self.fleet_watch_count = 0  # streams of brokers
        self.instance_id = secrets.token_hex(8)
        self.membership = Membership(settings, self)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._output = OutputPipes(self.node, self._publish_output, lambda: any(self._readers()))
        self._is_stopping = False
        # Told to end: a worker that others terminate meanwhile, as some schedulers do, is not to blame.
        self.is_ending = False
        self._template = Templates(
            settings, on_report=self._on_report, on_state=self.publish_status, on_lost=self._on_lost
        )
        self.limits = NodeLimits(settings, self.node, self._roster, lambda: self._template.pid)

    # --- the template

    @property
    def template_state(self) -> TemplateState:
        """What the template that takes orders can do."""
        return self._template.state

    @property
    def engine_missing(self) -> str:
        """Why no driver can run here; empty if one can, or nobody knows yet."""
        return self._template.loaded.engine_missing

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
            await asyncio.wait([loop.create_task(self.wait_for_change())], timeout=deadline - loop.time())
        self._template.stop(max(0.0, deadline - loop.time()) if self.template_state.is_ready else 0.0)

    def restart_template(self) -> None:
        """Start a template in place of the one that there is, which has no children."""
        self._template.restart()
        self.publish_status()

    async def wait_for_change(self) -> None:
        """Wait until the status changes, or a worker ended."""
        queue = self.watch()
        queue.get_nowait()
        try:
            await queue.get()
        finally:
            self.unwatch(queue)

    def _on_report(self, packet: dict[str, Any]) -> None:
        match packet["report"]:
            case "forked":
                self._on_forked(packet["name"], packet["pid"])
            case "not_forked":
                self._on_not_forked(packet["name"], packet["reason"])
            case "exited":
                self._on_exited(packet["pid"], packet["status"], packet["peak_memory_bytes"])

    def _on_lost(self, names: Sequence[str], reason: str) -> None:
        """Children died with their template."""
        for name in names:
            member = self._roster.members.pop(name, None)
            if member:
                self._report_exit(member, signal.SIGKILL, reason, 0)

    # --- workers

    def start_workers(self, request: agent_pb2.StartWorkersRequest) -> list[Member]:
        """Fork workers, as many as cores are free.

        Raises:
            QuakeGridError: the template is not ready.
        """
        if self._is_stopping or not self.template_state.is_ready:
            state = "stopping" if self._is_stopping else self.template_state
            raise QuakeGridError(f"the template of {self.node} is not ready: {state}")
        template = self._template.find(request.fingerprint)  # if none has it, the status tells the broker
        started: list[Member] = []
        self._roster.most_count = self.serving.core_count
        tokens = {ref.worker_id: ref.token for ref in request.workers}
        for ref in request.workers if template else ():
            width = self.limits.cores_per_worker * (request.width or 1)
            started += self._roster.take_cores(ref.session_id, [ref.worker_id], width)
        if not started:
            return []
        setup_fd = write_memfd("worker_setup", request.worker_setup)
        for member in started:
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
            self._template.order(order, [setup_fd, *writers], number=template)
            for fd in writers:
                os.close(fd)
        os.close(setup_fd)
        self.publish_status()
        return started

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
            request: `argv`, `cwd`, `environ`, `mode` of the command line.
            events_fd: where the driver writes its events.
            stdio: descriptors for 0, 1 and 2.
            on_end: called once.
        """
        name = f"driver-{next(self._driver_numbers)}"
        self._roster.add_driver(name)
        self._commands[name] = values.well_formed(" ".join(request["argv"]))
        self._driver_ends[name] = on_end
        request_fd = write_memfd("driver_request", json.dumps(request).encode())
        self._template.order({"order": "fork_driver", "name": name}, [request_fd, events_fd, *stdio])
        os.close(request_fd)
        self.publish_status()
        return name

    def signal_driver(self, name: str, number: int) -> None:
        """Pass a signal on to a driver; one that would stop it stops it also before it is forked."""
        member = self._roster.members.get(name)
        if member and member.pid:
            self._signal(member, number)
        elif member and number in STOP_SIGNALS:
            member.life = Life.STOPPING
            self._driver_ends.pop(name)(128 + number, "")

    def stop_driver(self, pid: int) -> bool:
        """Kill a driver; tells whether there was one."""
        for member in self._roster.drivers:
            if member.pid == pid:
                self._end(member, is_forced=True)
                return True
        return False

    def end_driver(self, name: str) -> None:
        """Terminate a driver whose command line is gone."""
        member = self._roster.members.get(name)
        if member:
            self._end(member, is_forced=False)

    # --- what is told to others

    def watch(self) -> asyncio.Queue[agent_pb2.WatchResponse]:
        """A queue that starts with the status and gets every change."""
        queue: asyncio.Queue[agent_pb2.WatchResponse] = asyncio.Queue()
        queue.put_nowait(agent_pb2.WatchResponse(status=self.status()))
        self._watchers.add(queue)
        return queue

    def unwatch(self, queue: asyncio.Queue[agent_pb2.WatchResponse]) -> None:
        """Stop filling a queue of `watch`."""
        self._watchers.discard(queue)

    def end_watches(self) -> None:
        """Tell those who watch that nothing more will come."""
        self._publish(LAST_WORD)

    def flush_output(self, session_id: int) -> None:
        """Tell those who watch what the workers of a session have printed, and that this is all."""
        self._output.flush(session_id)

    def status(self, *, with_samples: bool = False) -> agent_pb2.AgentStatus:
        """The node as it is now; `with_samples` also what it uses, which costs some milliseconds."""
        workers = [
            agent_pb2.WorkerStatus(
                worker_id=member.name,
                session_id=member.session_id,
                pid=member.pid,
                core=member.core,
                cores=member.cores,
            )
            for member in self._roster.workers
        ]
        drivers = [
            agent_pb2.DriverStatus(pid=member.pid, command=self._commands[member.name])
            for member in self._roster.drivers
        ]
        state, loaded, older = self._template.state, self._template.loaded, self._template.older
        sent_time = Timestamp()
        sent_time.GetCurrentTime()
        status = agent_pb2.AgentStatus(
            node=self.node,
            template_state=str(state),
            template_kind=agents.TEMPLATE_KINDS[state.kind],
            template_reason=state.reason,
            fingerprint=loaded.fingerprint,
            older_templates=[agent_pb2.OlderTemplate(fingerprint=each.fingerprint) for each in older],
            sent_time=sent_time,
            is_refreshing=self._template.is_refreshing,
            workers=workers,
            drivers=drivers,
            version=__version__,
            engine_version=loaded.engine_version,
            core_count=self.serving.core_count,
            all_core_count=self.serving.all_core_count,
            service_state=self.serving.state,
            is_watched=self.fleet_watch_count > 0,
            instance_id=self.instance_id,
            master=self.membership.master,
            is_leaving=self.membership.is_leaving,
        )
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
        member = self._roster.members.pop(name)
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
        node_folders.remove_of(self._settings, member.pid)
        on_end = self._driver_ends.pop(member.name, None)
        if on_end:
            on_end(exit_code(status), reason if member.pid == 0 else "")
            return
        if member.core < 0:
            return  # a driver that was stopped before it was forked
        if all(worker.session_id != member.session_id for worker in self._roster.workers):
            self._blobs.remove(member.session_id)
        if self.is_ending and os.WTERMSIG(status) == signal.SIGTERM:
            member.is_blameless = True
        last_output = self._output.close(member.name)
        reason = self.limits.close_worker(member) or reason
        is_clean = status == 0 or member.life is Life.STOPPING
        if not is_clean:
            log.warning(
                "worker_exited worker=%s reason=%s peak_memory_bytes=%d",
                member.name,
                reason,
                peak_memory_bytes,
            )
        exited = agent_pb2.WorkerExited(
            worker_id=member.name,
            session_id=member.session_id,
            reason=reason,
            peak_memory_bytes=peak_memory_bytes,
            is_clean=is_clean,
            exit_code=exit_code(status),
            signal=os.WTERMSIG(status),
            last_output=() if is_clean else last_output,
            is_blameless=member.is_blameless,
        )
        self._publish(agent_pb2.WatchResponse(worker_exited=exited))

    def publish_status(self) -> None:
        """Tell who watches."""
        self._publish(agent_pb2.WatchResponse(status=self.status()))

    def _publish_output(self, message: agent_pb2.WatchResponse) -> None:
        for queue in self._readers():
            queue.put_nowait(message)

    def _readers(self) -> Iterator[asyncio.Queue[agent_pb2.WatchResponse]]:
        """Who watches and keeps up."""
        return (queue for queue in self._watchers if queue.qsize() < MAX_WAITING_MESSAGES)

    def _publish(self, message: agent_pb2.WatchResponse) -> None:
        for queue in self._watchers:
            queue.put_nowait(message)
