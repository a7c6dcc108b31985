"""The next driver of a calculation whose driver has died: when there is one, and what it is asked for."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from quakegrid import errors
from quakegrid.journals.job_lists import PLACED, JobList
from quakegrid.services.agent.node.doors import driver_runs, driver_tickets
from quakegrid.services.agent.node.doors.driver_runs import DriverRun, DriverRuns
from quakegrid.services.agent.node.doors.notifications import Notifications
from quakegrid.services.agent.node.drivers import DriverFiles, Drivers
from quakegrid.settings import config

KILLED = 128 + signal.SIGKILL
REQUEST: dict[str, Any] = {
    "argv": ["engine", "--run", "job.ini"],
    "is_detachable": True,
    "notify": [],
    "mode": "run",
    "proof": "old",
}
AGAIN = ["resume", "7", "--by-itself"]


class FakeDrivers:
    """Notes what is asked of it; its drivers write a job's id at their start."""

    is_stopping = False

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.on_end: Callable[[int, str], None] = lambda _code, _reason: None
        self.detached: list[str] = []
        self.given: list[list[int]] = []
        self.unwanted: set[str] = set()
        self.refusals, self.ids = 0, b"7\n"

    def start(self, request: dict[str, Any], files: DriverFiles, on_end: Any, *, account: None) -> str:
        """As `Drivers.start`."""
        assert account is None
        if self.refusals:
            self.refusals -= 1
            raise errors.StateError("there is no template")
        self.requests.append(request)
        self.given.append(list(files.given))
        for line in self.ids.split():
            JobList(files.jobs_fd).add(line)
        self.on_end = on_end
        return f"driver-{len(self.requests)}"

    def detach(self, name: str) -> None:
        """As `Drivers.detach`."""
        self.detached.append(name)

    def was_ended(self, name: str) -> bool:
        """As `Drivers.was_ended`."""
        return name in self.unwanted

    @property
    def argvs(self) -> list[list[str]]:
        """What drivers were asked for."""
        return [request["argv"] for request in self.requests]


class World:
    """An agent without anything but these."""

    def __init__(self, folder: Path, resume: str = "auto") -> None:
        self.drivers, self.told, self.ends = FakeDrivers(), list[Any](), list[tuple[int, str]]()
        self.folder = folder
        settings = replace(config.load_settings(folder, {}), resume=resume)
        self.runs = DriverRuns(
            cast("Drivers", self.drivers), cast("Notifications", self), settings, self.prepare
        )

    async def prepare(self, request: dict[str, Any]) -> tuple[dict[str, Any], None]:
        """As `Preparation.again`."""
        return request | {"proof": "fresh"}, None

    def on_driver_end(self, _request: dict[str, Any], job_ids: list[int]) -> None:
        """As `Notifications.on_driver_end`."""
        self.told.append(job_ids)

    def run(self, given: Sequence[int] = (), **changes: Any) -> DriverRun:
        """Run a request, with what it came with."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            files = DriverFiles(theirs.fileno(), given=given)
            return self.runs.start(REQUEST | changes, files, lambda *end: self.ends.append(end), None)

    async def end(self, code: int, reason: str = "") -> None:
        """The driver ends; all that follows at once has followed."""
        self.drivers.on_end(code, reason)
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def tickets(self) -> list[str]:
        """Files of tickets."""
        folder = self.folder / driver_tickets.FOLDER
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    for _ in range(6000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never was")


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene to its end."""

    async def run() -> None:
        await scene()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_killed_driver_is_followed_by_one_that_resumes(tmp_path: Path) -> None:
    """Which has a fresh certificate, and whose end is that of the calculation."""

    async def scene() -> None:
        world = World(tmp_path)
        run = world.run()
        run.detach()
        await world.end(KILLED)

        assert world.drivers.argvs == [REQUEST["argv"], AGAIN]
        assert world.drivers.requests[1]["proof"] == "fresh"
        assert world.drivers.detached == ["driver-1", "driver-2"]
        assert (world.ends, world.told) == ([], [])
        await world.end(0)
        assert (world.ends, world.told, world.tickets) == ([(0, "")], [[7]], [])

    play(scene)


def test_first_driver_has_what_the_request_came_with(tmp_path: Path) -> None:
    """Descriptors of the web service; those that follow work with the calculation's own files."""

    async def scene() -> None:
        world = World(tmp_path)
        world.run([17, 18])
        await world.end(KILLED)

        assert world.drivers.given == [[17, 18], []]

    play(scene)


@pytest.mark.parametrize("code", [0, 1, 4, 128 + signal.SIGTERM, 128 + signal.SIGINT])
def test_driver_that_ended_by_itself_is_followed_by_none(tmp_path: Path, code: int) -> None:
    """An error of the engine, an abort, an end that was wanted."""

    async def scene() -> None:
        world = World(tmp_path)
        world.run()
        await world.end(code)
        assert (world.ends, len(world.drivers.argvs), world.tickets) == ([(code, "")], 1, [])

    play(scene)


def test_killed_driver_without_job_or_right_to_go_on_is_followed_by_none(tmp_path: Path) -> None:
    """It had made no job, was killed as somebody wanted, could not be forked, or belongs to a terminal."""

    async def scene() -> None:
        world = World(tmp_path)
        world.drivers.ids = b""
        world.run()
        await world.end(KILLED)
        world.drivers.ids = b"7\n"
        world.run()
        world.drivers.unwanted.add("driver-2")
        await world.end(KILLED)
        world.drivers.ids = b""
        world.run()
        await world.end(KILLED, "it could not be forked")
        world.drivers.ids = b"7\n"
        world.run(is_detachable=False)
        await world.end(KILLED)
        world.run(argv=["export", "7", "out", "csv"])
        await world.end(KILLED)
        assert [code for code, _reason in world.ends] == [KILLED] * 5
        assert len(world.drivers.argvs) == 5

    play(scene)


@pytest.mark.parametrize("resume", ["ask", "never"])
def test_without_auto_only_a_driver_that_asks_for_it_is_followed(tmp_path: Path, resume: str) -> None:
    """One whose run was another one than its journal's wants to begin anew."""

    async def scene() -> None:
        world = World(tmp_path, resume)
        world.run()
        await world.end(errors.EXIT_AGAIN)
        assert world.drivers.argvs[1] == AGAIN
        await world.end(KILLED)
        assert (world.ends, len(world.drivers.argvs)) == ([(KILLED, "")], 2)

    play(scene)


def test_next_driver_that_never_ran_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its template was killed before it was forked; where that never ends, it is given up."""

    async def scene() -> None:
        monkeypatch.setattr(driver_runs, "PAUSE_S", 0.0)
        monkeypatch.setattr(driver_runs, "FORK_TRIES", 3)
        world = World(tmp_path)
        world.run()
        await world.end(KILLED)
        for code in (KILLED, 1):
            await world.end(code, "its template ended")
        assert world.drivers.argvs[1:] == [AGAIN] * 3
        assert len(world.tickets) == 2, "the next agent would go on, too"
        await world.end(KILLED, "its template ended")
        assert (world.ends, world.tickets) == ([(KILLED, "its template ended")], [])

    play(scene)


def test_next_driver_goes_on_with_all_jobs_of_the_request(tmp_path: Path) -> None:
    """The first ones may be complete."""

    async def scene() -> None:
        world = World(tmp_path)
        world.drivers.ids = b"7\n8\n"
        world.run()
        await world.end(KILLED)
        assert world.drivers.argvs[1] == ["resume", "7", "8", "--by-itself"]

    play(scene)


def test_start_of_the_next_driver_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template has died with the driver, and the dbserver may be away; some time it is given up."""

    async def scene() -> None:
        monkeypatch.setattr(driver_runs, "PAUSE_S", 0.0)
        world = World(tmp_path)
        world.run()
        world.drivers.refusals = 3
        await world.end(KILLED)
        assert world.drivers.argvs[1] == AGAIN
        monkeypatch.setattr(driver_runs, "TRIES", 2)
        world.drivers.refusals = 3
        await world.end(KILLED)
        assert world.ends == [(KILLED, "")]

    play(scene)


def test_agent_that_stops_leaves_tickets_for_the_next_one(tmp_path: Path) -> None:
    """Which resumes in the order of the jobs, each when the one before has its place in the queue."""

    async def scene() -> None:
        world = World(tmp_path)
        for ids in (b"9\n", b"7\n8\n"):
            world.drivers.ids = ids
            world.run()
            world.drivers.is_stopping = True
            await world.end(4)
            world.drivers.is_stopping = False
        assert (world.told, len(world.tickets)) == ([], 4)

        world = World(tmp_path)
        world.drivers.ids = b"7\n"
        world.runs.take_up()
        await until(lambda: world.drivers.argvs)
        assert world.drivers.argvs == [["resume", "7", "8", "--by-itself"]]
        (seven,) = [each for each in driver_tickets.left(tmp_path / "drivers") if each[0].job_ids[0] == 7]
        JobList(seven[0].jobs_fd).add(PLACED)
        await until(lambda: len(world.drivers.argvs) == 2)
        assert world.drivers.argvs[1] == ["resume", "9", "--by-itself"]
        assert world.drivers.requests[0]["proof"] == "fresh"
        world.runs.stop()

    play(scene)


def test_next_agent_without_auto_tells_the_ends(tmp_path: Path) -> None:
    """The setting was changed meanwhile."""

    async def scene() -> None:
        world = World(tmp_path)
        world.run()
        world.drivers.is_stopping = True
        await world.end(4)
        world = World(tmp_path, "ask")
        world.runs.take_up()
        await until(lambda: world.told)
        assert (world.told, world.drivers.argvs, world.tickets) == ([[7]], [], [])

    play(scene)


def test_driver_that_cannot_be_written_down_is_followed_while_its_agent_lives(tmp_path: Path) -> None:
    """A full disk costs the resumption by the next agent, and no more."""

    async def scene() -> None:
        world = World(tmp_path)
        (tmp_path / driver_tickets.FOLDER).touch()
        world.run()
        await world.end(KILLED)
        assert (world.ends, world.drivers.argvs[1:]) == ([], [AGAIN])
        await world.end(0)
        assert world.ends == [(0, "")]
        world.drivers.refusals = 1
        with pytest.raises(errors.StateError):
            world.run()

    play(scene)


def test_full_disk_costs_no_ticket_that_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that starts while nothing can be written leaves it to the next one as it was."""

    async def scene() -> None:
        world = World(tmp_path)
        world.run()
        JobList(driver_tickets.left(tmp_path / "drivers")[0][0].jobs_fd).add(PLACED)
        world.drivers.is_stopping = True
        await world.end(4)
        tickets = world.tickets

        def refuse(path: Path, _data: bytes) -> None:
            path.touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(driver_tickets, "_write_new", refuse)
        for _ in range(2):  # an agent that dies as well
            world = World(tmp_path)
            world.runs.take_up()
            await until(lambda world=world: world.drivers.argvs)
            assert world.drivers.argvs == [AGAIN]
            assert world.tickets == tickets
            world.runs.stop()
        assert world.run().ticket.path is None
        assert world.tickets == tickets

    play(scene)


def test_ticket_that_is_not_whole_is_removed(tmp_path: Path) -> None:
    """Its agent was killed while it wrote it, before there was a driver."""
    folder = tmp_path / driver_tickets.FOLDER
    folder.mkdir()
    (folder / "one.driver.json").write_text('{"argv": [', encoding="utf-8")
    (folder / "one.jobs").touch()
    (folder / "two.driver.json").write_text("{}", encoding="utf-8")

    assert driver_tickets.left(folder) == []
    assert list(folder.iterdir()) == []


def test_request_without_arguments_has_no_ticket(tmp_path: Path) -> None:
    """Its driver says what is wrong with it."""

    async def scene() -> None:
        world = World(tmp_path)
        world.run(argv=[])
        assert world.tickets == []
        await world.end(2)
        assert world.ends == [(2, "")]

    play(scene)


@pytest.mark.parametrize("ends_with", ["signal", "command line"])
def test_driver_that_dies_at_once_again_and_again_is_slowed_down(tmp_path: Path, ends_with: str) -> None:
    """The second one follows at once, the next ones after longer and longer; that can be ended."""

    async def scene() -> None:
        world = World(tmp_path)
        run = world.run()
        await world.end(errors.EXIT_AGAIN)
        assert world.drivers.argvs[1:] == [AGAIN]
        await world.end(errors.EXIT_AGAIN)
        assert world.drivers.argvs[1:] == [AGAIN]
        run.signal(signal.SIGWINCH)
        assert world.ends == []
        if ends_with == "signal":
            run.signal(signal.SIGINT)
        else:
            run.terminate()
        await asyncio.sleep(0)
        code = 128 + (signal.SIGINT if ends_with == "signal" else signal.SIGTERM)
        assert (world.ends, world.told, world.tickets) == ([(code, "")], [[7]], [])
        assert world.drivers.argvs[1:] == [AGAIN]

    play(scene)


def test_pauses_between_drivers_grow_and_have_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a driver that ends at once for ever."""
    pauses = []

    async def pause(pause_s: float) -> None:
        if pause_s:
            pauses.append(pause_s)
        await original(0)

    async def scene() -> None:
        world = World(tmp_path)
        world.run()
        for _ in range(9):
            await world.end(errors.EXIT_AGAIN)
        assert len(world.drivers.requests) == 10

    original = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", pause)
    play(scene)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
