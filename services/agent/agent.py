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
from collections.abc import Callable, Sequence
from typing import Any

from quakegrid import __version__, values
from quakegrid.api.v1 import agent_pb2
from quakegrid.config import Settings
from quakegrid.errors import QuakeGridError
from services.agent.blob_folders import BlobFolders
from services.agent.exits import describe_exit, exit_code
from services.agent.membership import Membership
from services.agent.packets import write_memfd
from services.agent.roster import Life, Member, Roster
from services.agent.serving import Serving
from services.agent.template_link import TemplateLink

log = logging.getLogger("quakegrid.agent")
STOP_GRACE_S = 2.0
MAX_LOAD_FAILURES = 3
LOAD_PAUSE_S = 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# How the template's state begins when workers can start; what follows says that there is no engine.
WARM = "warm"
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
        self._load_failures = 0
        self._template = TemplateLink(
            settings.state_dir, on_report=self._on_report, on_gone=self._on_template_gone
        )
        self.template_state = "loading"
        self.engine_version = ""
        self.engine_missing = ""

    # --- the template

    def start_template(self) -> None:
        """Start the template; its state is told to the watchers as it changes."""
        self._blobs.clear()  # what an agent or template that was killed left
        self._template.start()

    async def stop(self) -> None:
        """End every child, gently first, and the template."""
        for member in list(self._roster.members.values()):
            self._end(member, is_forced=False)
        deadline = asyncio.get_running_loop().time() + 2 * STOP_GRACE_S
        while self._roster.members and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait([asyncio.ensure_future(self.wait_for_change())], timeout=STOP_GRACE_S)
        self._template.stop()
        self._blobs.clear()

    def restart_template(self) -> None:
        """Start a template in place of the one that there is, which has no children."""
        self._template.stop()
        self._load_failures, self.template_state = 0, "loading"
        self.start_template()
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
            case "warm":
                self.engine_version, self.engine_missing = packet["engine_version"], packet["engine_missing"]
                self.template_state = WARM
                if self.engine_missing:
                    self.template_state += f", without the engine: {self.engine_missing}"
                log.info("template_%s engine=%s", self.template_state, self.engine_version)
                self.publish_status()
            case "failed":
                self.template_state = f"failed: {packet['reason']}"
                log.error("template_failed reason=%s", packet["reason"])
                self.publish_status()
            case "forked":
                self._on_forked(packet["name"], packet["pid"])
            case "not_forked":
                self._on_not_forked(packet["name"], packet["reason"])
            case "exited":
                self._on_exited(packet["pid"], packet["status"], packet["peak_memory_bytes"])

    def _on_template_gone(self, status: int) -> None:
        """The template is dead, and its children with it; start another unless it cannot work."""
        loop = asyncio.get_running_loop()
        log.error("template_exited status=%s", status)
        is_failed = self.template_state.startswith("failed")
        for member in list(self._roster.members.values()):
            del self._roster.members[member.name]
            reason = f"the template {self.template_state}" if is_failed else describe_exit(signal.SIGKILL)
            self._report_exit(member, signal.SIGKILL, reason, 0)
        if not is_failed:
            self._load_failures = self._load_failures + 1 if self.template_state == "loading" else 0
            if self._load_failures < MAX_LOAD_FAILURES:
                self.template_state = "loading"
                loop.call_later(LOAD_PAUSE_S * self._load_failures, self.start_template)
            else:
                self.template_state = f"failed: it died {self._load_failures} times while loading the engine"
        self.publish_status()

    # --- workers

    def start_workers(self, request: agent_pb2.StartWorkersRequest) -> list[Member]:
        """Fork workers, as many as cores are free.

        Raises:
            QuakeGridError: the template is not ready.
        """
        if not self.template_state.startswith(WARM):
            raise QuakeGridError(f"the template of {self.node} is not ready: {self.template_state}")
        started: list[Member] = []
        for ref in request.workers[: max(0, self.serving.core_count - self.worker_count)]:
            started += self._roster.take_cores(ref.session_id, [ref.worker_id])
        if not started:
            return []
        setup_fd = write_memfd("worker_setup", request.worker_setup)
        for member in started:
            worker = {
                "worker_id": member.name,
                "session_id": member.session_id,
                "lane_endpoint": request.lane_endpoint,
                "node": self.node,
                "core": member.core,
                "memory_bytes": self._settings.agent_memory_bytes,
                "blob_dir": str(self._blobs.open(member.session_id)),
            }
            self._template.order({"order": "fork_worker", "name": member.name, "worker": worker}, [setup_fd])
        os.close(setup_fd)
        self.publish_status()
        return started

    def stop_workers(self, session_id: int, names: Sequence[str], *, is_forced: bool) -> int:
        """Terminate workers, then kill what is left; returns how many there were."""
        members = self._roster.on_stop(session_id=session_id, names=names)
        for member in members:
            self._end(member, is_forced=is_forced)
        return len(members)

    def kill_workers(self) -> None:
        """Kill every worker, whoever's it is."""
        for member in self._roster.workers:
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

    def status(self) -> agent_pb2.AgentStatus:
        """The node as it is now."""
        workers = [
            agent_pb2.WorkerStatus(
                worker_id=member.name, session_id=member.session_id, pid=member.pid, core=member.core
            )
            for member in self._roster.workers
        ]
        drivers = [
            agent_pb2.DriverStatus(pid=member.pid, command=self._commands[member.name])
            for member in self._roster.drivers
        ]
        return agent_pb2.AgentStatus(
            node=self.node,
            core_count=self.serving.core_count,
            template_state=self.template_state,
            workers=workers,
            drivers=drivers,
            version=__version__,
            engine_version=self.engine_version,
            service_state=self.serving.state,
            total_core_count=self.serving.total_core_count,
            is_watched=self.fleet_watch_count > 0,
            instance_id=self.instance_id,
            master=self.membership.master,
            is_leaving=self.membership.is_leaving,
        )

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
        if self._template.is_open:
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
        on_end = self._driver_ends.pop(member.name, None)
        if on_end:
            on_end(exit_code(status), reason if member.pid == 0 else "")
            return
        if member.core < 0:
            return  # a driver that was stopped before it was forked
        if all(worker.session_id != member.session_id for worker in self._roster.workers):
            self._blobs.remove(member.session_id)
        is_clean = status == 0 or member.life is Life.STOPPING
        if not is_clean:
            log.warning("worker_exited worker=%s reason=%s", member.name, reason)
        exited = agent_pb2.WorkerExited(
            worker_id=member.name,
            session_id=member.session_id,
            reason=reason,
            peak_memory_bytes=peak_memory_bytes,
            is_clean=is_clean,
        )
        self._publish(agent_pb2.WatchResponse(worker_exited=exited))

    def publish_status(self) -> None:
        """Tell who watches."""
        self._publish(agent_pb2.WatchResponse(status=self.status()))

    def _publish(self, message: agent_pb2.WatchResponse) -> None:
        for queue in self._watchers:
            queue.put_nowait(message)
