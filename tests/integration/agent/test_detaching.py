"""What becomes of a driver when its command line goes: the agent's socket, with drivers that are none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from quakegrid.services.agent.node.doors.command_lines import LocalSocket
from quakegrid.services.agent.node.doors.driver_runs import DriverRuns
from quakegrid.services.agent.node.doors.notifications import Notifications
from quakegrid.services.agent.node.doors.preparation import Preparation
from quakegrid.services.agent.node.doors.socket_audit import SocketAudit
from quakegrid.services.agent.node.driver_certificates import OwnCertifier
from quakegrid.services.agent.node.drivers import DriverFiles, Drivers
from quakegrid.services.agent.node.persons.accounts import NodeAccounts
from quakegrid.services.agent.rules.persons import Account
from quakegrid.settings import config
from quakegrid.settings.agent_accounts import AgentAccounts
from quakegrid.transport.audited_calls import Auditor

OLD = {"argv": ["engine", "--run", "job.ini"], "cwd": "/", "environ": {}, "mode": "run"}
DETACHABLE = OLD | {"is_detachable": True}
TIMEOUT_S = 60.0


class FakeDrivers:
    """Notes what is asked of it."""

    is_warming = False
    is_stopping = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.started = asyncio.Event()
        self.left, self.signalled = asyncio.Event(), asyncio.Event()
        self.on_end: Callable[[int, str], None] = lambda _code, _reason: None

    def start(
        self,
        request: dict[str, Any],
        _files: DriverFiles,
        on_end: Callable[[int, str], None],
        *,
        account: Account | None,
    ) -> str:
        """As `Drivers.start`."""
        assert account is None
        self.asked.append(("start", *request["argv"]))
        self.on_end = on_end
        self.started.set()
        return "driver-1"

    def detach(self, name: str) -> None:
        """As `Drivers.detach`."""
        self.asked.append(("detach", name))
        self.left.set()

    def terminate(self, name: str) -> None:
        """As `Drivers.terminate`."""
        self.asked.append(("terminate", name))
        self.left.set()

    def signal(self, name: str, number: int) -> None:
        """As `Drivers.signal`."""
        self.asked.append(("signal", name, str(number)))
        self.signalled.set()


class FakeAuditor:
    """Keeps nothing."""

    def note_account(self, *_about: object) -> None:
        """As `Auditor.note_account`."""


class Line:
    """A command line's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def event(self) -> dict[str, Any]:
        """The next event; an empty one at the end."""
        while (line := await self._reader.readline()) == b"\n":
            continue
        found = json.loads(line or b"{}")
        assert isinstance(found, dict)
        return found

    def say(self, content: object) -> None:
        """Send a line."""
        self._writer.write(json.dumps(content).encode() + b"\n")

    def cut(self) -> None:
        """Go away without a word, in the middle of whatever it was."""
        self._writer.transport.abort()


Play = Callable[[FakeDrivers, Line], Awaitable[None]]


def played(folder: Path, request: dict[str, Any], play: Play) -> list[tuple[str, ...]]:
    """What was asked of the drivers while a command line did this."""

    async def run() -> list[tuple[str, ...]]:
        drivers = FakeDrivers()
        path = folder / "agent.sock"
        found, accounts = cast("Drivers", drivers), NodeAccounts(AgentAccounts(), folder)
        preparation = Preparation(accounts, OwnCertifier("x" * 40))
        notifications = Notifications(found, (), folder, preparation.again)
        audit = SocketAudit(cast("Auditor", FakeAuditor()))
        runs = DriverRuns(found, notifications, config.load_settings(folder, {}), preparation.again)
        local = LocalSocket(found, accounts, path, preparation, runs, audit)
        local.bind()
        local.start()
        line = Line(*await asyncio.open_unix_connection(path))
        line.say(request)
        await drivers.started.wait()
        await play(drivers, line)
        await drivers.left.wait()
        line.cut()
        local.stop()
        return drivers.asked

    return asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


async def go(_drivers: FakeDrivers, line: Line) -> None:
    """Without a farewell."""
    line.cut()


def test_detachable_driver_goes_on_without_its_command_line(tmp_path: Path) -> None:
    """It was started, and nothing else was asked of it."""
    asked = played(tmp_path, DETACHABLE, go)

    assert asked == [("start", "engine", "--run", "job.ini"), ("detach", "driver-1")]


@pytest.mark.parametrize("request_", [OLD, OLD | {"is_detachable": False}])
def test_driver_of_an_older_command_line_ends_with_it(tmp_path: Path, request_: dict[str, Any]) -> None:
    """Exports and pictures, too, are of no use without who waits for them."""
    assert played(tmp_path, request_, go)[1:] == [("terminate", "driver-1")]


def test_agent_says_first_that_a_driver_may_be_left(tmp_path: Path) -> None:
    """As agents of an older release would end it; an old command line passes over what it does not know."""
    events = []

    async def listen(drivers: FakeDrivers, line: Line) -> None:
        events.append(await line.event())
        drivers.on_end(0, "")
        events.append(await line.event())

    asked = played(tmp_path, DETACHABLE, listen)

    assert events == [{"event": "detachable"}, {"event": "exit", "code": 0}]
    assert asked[1:] == [("terminate", "driver-1")]  # who has ended already


def test_half_a_signal_is_none(tmp_path: Path) -> None:
    """A command line that was killed while it wrote leaves its driver."""

    async def half(drivers: FakeDrivers, line: Line) -> None:
        line.say({"signal": 28})
        line._writer.write(b'{"signal": 1')
        await drivers.signalled.wait()
        line.cut()

    asked = played(tmp_path, DETACHABLE, half)

    assert asked[1:] == [("signal", "driver-1", "28"), ("detach", "driver-1")]


def test_words_that_are_no_signal_end_a_driver(tmp_path: Path) -> None:
    """Whoever speaks to the agent like that is no command line of ours."""
    events = []

    async def babble(_drivers: FakeDrivers, line: Line) -> None:
        line.say("go on")
        events.extend([await line.event(), await line.event()])

    asked = played(tmp_path, DETACHABLE, babble)

    assert [event["event"] for event in events] == ["detachable", "refused"]
    assert asked[1:] == [("terminate", "driver-1")]
