"""Starts and ends the drivers that command lines ask for. Runs in the agent's event loop."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import QuakeGridError
from quakegrid.jobs import texts
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.services.agent.node.children import Children
from quakegrid.services.agent.node.output import driver_logs
from quakegrid.services.agent.orders import ForkDriver
from quakegrid.services.agent.packets import close_all, write_memfd
from quakegrid.services.agent.rules.persons import Account
from quakegrid.services.agent.rules.roster_events import DriverAsked, KillAsked, MemberGone, StopAsked
from quakegrid.settings.config import Settings

# A status has this much of a driver's command line.
MAX_COMMAND_CHARS = 1000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
DriverEnd = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class DriverFiles:
    """Descriptors of a driver.

    Args:
        events_fd: where it writes its events.
        stdio: for 0, 1 and 2. In other modes than "oq" the drivers' log takes their place.
        jobs_fd: where it writes the ids of its jobs; -1 if nobody wants to know.
        given: for its own use, at most `packets.MAX_GIVEN`.
    """

    events_fd: int
    stdio: Sequence[int] = ()
    jobs_fd: int = -1
    given: Sequence[int] = ()


class Drivers:
    """Starts drivers, passes signals on to them, and tells command lines how their drivers ended.

    Args:
        settings: of the cluster.
        node: name of this node.
        children: has their roster.
        on_change: called when the status changes.
    """

    def __init__(
        self, settings: Settings, node: str, children: Children, on_change: Callable[[], None]
    ) -> None:
        self._log_dir, self._node, self._children = settings.log_dir, node, children
        self._on_change = on_change
        self._numbers = itertools.count(1)
        self._ends: dict[str, DriverEnd] = {}
        # Command lines of drivers by name.
        self.commands: dict[str, str] = {}
        # For whom each driver works.
        self._persons: dict[str, str] = {}
        # Names of drivers whose command lines have gone. The broker's orders to kill are not among them: it
        # gives one for a driver that has died, too. Whether a job was aborted, its state tells.
        self._told_to_end: set[str] = set()
        # Names of drivers that go on without their command line.
        self.detached: set[str] = set()

    @property
    def refusal(self) -> str:
        """Why no driver can be started here; empty if one can be, now or when the template has loaded."""
        templates = self._children.templates
        if self._children.is_stopping:
            return "the agent is about to stop"
        if templates.state.kind is TemplateKind.FAILED:
            return f"the template {templates.state}"
        return templates.loaded.engine_missing

    @property
    def is_stopping(self) -> bool:
        """Whether the agent ends its children, and starts no more."""
        return self._children.is_stopping

    @property
    def is_warming(self) -> bool:
        """Whether a driver that is started now waits until the template has loaded."""
        return not self.refusal and not self._children.templates.state.is_ready

    def start(
        self,
        request: dict[str, Any],
        files: DriverFiles,
        on_end: DriverEnd,
        *,
        account: Account | None = None,
    ) -> str:
        """Fork a driver; returns its name.

        Args:
            request: `argv`, `cwd`, `environ`, `mode`, `is_detachable` of the command line, checked; `person`
                and `account_id`, for whom the driver works, and `proof`, its certificate.
            files: the driver's descriptors; they stay the caller's.
            on_end: called once, with the driver's exit code, and the reason if the driver never ran.
            account: as whom it runs; None for the agent's own account.
        Raises:
            QuakeGridError: no driver can be started. The caller has nothing to clean up.
        """
        if self.refusal:
            raise QuakeGridError(self.refusal)
        command = texts.cut(" ".join(request["argv"]), MAX_COMMAND_CHARS)
        data = json.dumps(request).encode()
        name = f"driver-{next(self._numbers)}"
        opened: list[int] = []
        try:
            stdio, jobs_fd = files.stdio, files.jobs_fd
            if request["mode"] != "oq":
                stdio = opened = driver_logs.open_stdio(self._log_dir)
            if jobs_fd < 0:
                jobs_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                opened = [*opened, jobs_fd]
            self._order(
                ForkDriver(name, account, len(files.given)),
                data,
                [files.events_fd, *stdio, jobs_fd, *files.given],
            )
        except OSError as exc:
            raise QuakeGridError(f"{self._node} could not start a driver: {exc}") from None
        finally:
            close_all(opened)
        self.commands[name], self._persons[name] = command, request.get("person", "")
        self._ends[name] = on_end
        self._on_change()
        return name

    def signal(self, name: str, number: int) -> None:
        """Pass a signal on to a driver. A signal that ends drivers also ends one that is not forked yet."""
        member = self._children.roster.members.get(name)
        if member and member.pid:
            self._children.templates.signal(member.pid, number)
        elif member and number in STOP_SIGNALS:
            self._children.handle(KillAsked(name))
            on_end = self._ends.pop(name, None)  # with a second signal there is nobody to tell any more
            if on_end:
                on_end(128 + number, "")

    def count_of(self, person: str) -> int:
        """How many drivers a person has here."""
        return list(self._persons.values()).count(person)

    def kill(self, pid: int, person: str) -> bool:
        """Kill the driver with this pid; returns whether there was one.

        Args:
            pid: of the driver.
            person: whose driver it is, another person's is left alone; empty for anybody's.
        """
        for member in self._children.roster.drivers:
            if member.pid == pid > 0 and person in ("", self._persons.get(member.name)):
                self._children.handle(KillAsked(member.name))
                return True
        return False

    def terminate(self, name: str) -> None:
        """Terminate a driver whose command line is gone."""
        if name in self._children.roster.members:
            self._told_to_end.add(name)
            self._children.handle(StopAsked(name))

    def was_ended(self, name: str) -> bool:
        """Whether the end of a driver was wanted; asked when it has ended."""
        return name in self._told_to_end

    def detach(self, name: str) -> None:
        """Let a driver go on without its command line."""
        if name in self._children.roster.members:
            self.detached.add(name)
            self._on_change()

    def on_end(self, name: str, code: int, reason: str) -> None:
        """Tell the command line how its driver ended; `reason` says why the driver never ran, or is empty."""
        self.commands.pop(name, None)
        self._persons.pop(name, None)
        self.detached.discard(name)
        with contextlib.suppress(OSError):  # the next driver says what is wrong with the log
            driver_logs.put_aside(self._log_dir)
        # `signal` told it already if the driver was stopped before it was forked.
        on_end = self._ends.pop(name, None)
        if on_end:
            on_end(code, reason)
        self._told_to_end.discard(name)

    def _order(self, order: ForkDriver, request: bytes, fds: Sequence[int]) -> None:
        """Enter a driver on the roster and order it; if it cannot be ordered, take it off again."""
        request_fd = write_memfd("driver_request", request)
        self._children.handle(DriverAsked(order.name))
        if order.account is not None:
            self._children.accounts[order.name] = order.account
        try:
            self._children.templates.fork(order, [request_fd, *fds])
        except (OSError, QuakeGridError):
            self._children.handle(MemberGone(order.name))
            raise
        finally:
            os.close(request_fd)
