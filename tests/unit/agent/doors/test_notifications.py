"""How the agent tells the ends of jobs: children for drivers that have ended, and what is written down."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from quakegrid.errors import QuakeGridError
from quakegrid.services.agent.node.doors import notifications
from quakegrid.services.agent.node.doors.driver_tickets import DriverTicket
from quakegrid.services.agent.node.doors.notifications import Notifications
from quakegrid.services.agent.node.drivers import DriverFiles, Drivers

REQUEST = {
    "argv": ["x"],
    "cwd": "/",
    "environ": {},
    "mode": "run",
    "notify": ["a"],
    "person": "anna",
    "proof": "p",
}


class FakeDrivers:
    """Notes what was started; refuses the first tries."""

    def __init__(self, refusals: int = 0, *, is_stopping: bool = False) -> None:
        self.is_stopping, self.refusals = is_stopping, refusals
        self.started: list[dict[str, Any]] = []

    def start(
        self, request: dict[str, Any], files: DriverFiles, on_end: Callable[..., None], account: None
    ) -> str:
        """As `Drivers.start`."""
        assert (os.fstat(files.events_fd).st_size, list(files.stdio), account) == (0, [], None)
        if self.refusals:
            self.refusals -= 1
            raise QuakeGridError("there is no template")
        self.started.append(request)
        on_end(1, "it could not be forked")
        return "driver-7"


async def prepare(request: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """A fresh certificate, and the agent's own account."""
    return request | {"proof": "fresh"}, None


def made(drivers: FakeDrivers, folder: Path, for_all: Sequence[str] = ()) -> Notifications:
    """Notifications of these drivers."""
    return Notifications(cast("Drivers", drivers), for_all, folder, prepare)


async def all_others() -> None:
    """Wait until all other tasks have ended, or were cancelled."""
    own = asyncio.current_task()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not own), return_exceptions=True)


def ended(found: Notifications, ids: bytes = b"7\n8\n", request: dict[str, Any] = REQUEST) -> None:
    """A driver ends that has written these ids."""
    ticket = DriverTicket.unwritten()
    os.pwrite(ticket.jobs_fd, ids, 0)
    found.on_driver_end(request, ticket.job_ids)
    ticket.close()


def test_child_tells_the_jobs_of_a_driver_to_all_targets(tmp_path: Path) -> None:
    """Those of the person and those of the cluster; it works as the person, with a fresh certificate."""
    drivers = FakeDrivers()

    async def run() -> None:
        ended(made(drivers, tmp_path, ["b"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())

    [child] = drivers.started
    assert (child["mode"], child["job_ids"], child["notify"]) == ("notify", [7, 8], ["a", "b"])
    assert (child["person"], child["proof"], child["argv"]) == ("anna", "fresh", ["notify", "7, 8"])


@pytest.mark.parametrize(("ids", "notify"), [(b"", ["a"]), (b"7\n", [])])
def test_nothing_is_started_without_a_job_or_a_target(tmp_path: Path, ids: bytes, notify: list[str]) -> None:
    """As for `oq info`."""
    drivers = FakeDrivers()

    async def run() -> None:
        ended(made(drivers, tmp_path), ids, REQUEST | {"notify": notify})
        await asyncio.sleep(0)

    asyncio.run(run())

    assert drivers.started == []


def test_start_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a template has died with its drivers; not for ever."""
    monkeypatch.setattr(notifications, "PAUSE_S", 0.0)
    monkeypatch.setattr(notifications, "TRIES", 3)
    drivers, hopeless = FakeDrivers(refusals=2), FakeDrivers(refusals=5)

    async def run() -> None:
        for each in (drivers, hopeless):
            ended(made(each, tmp_path))
        await all_others()

    asyncio.run(run())

    assert (len(drivers.started), hopeless.started, hopeless.refusals) == (1, [], 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_stopping", [True, False])
def test_next_agent_tells_what_this_one_could_not(tmp_path: Path, is_stopping: bool) -> None:
    """Written down without the certificate, for the agent's user only."""
    folder = tmp_path / "untold"
    drivers = FakeDrivers()

    async def run() -> None:
        first = made(FakeDrivers(refusals=9, is_stopping=is_stopping), folder)
        ended(first)
        await asyncio.sleep(0)
        first.stop()
        await all_others()
        [path] = folder.iterdir()
        assert (path.stat().st_mode & 0o777, json.loads(path.read_bytes())["proof"]) == (0o600, None)

        made(drivers, folder).take_up()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())

    assert [each["job_ids"] for each in drivers.started] == [[7, 8]]
    assert list(folder.iterdir()) == []


def test_damaged_file_is_passed_over(tmp_path: Path) -> None:
    """It stops no agent."""
    (tmp_path / "a.notification.json").write_text("{")
    (tmp_path / "b.notification.json").write_text("{}")

    made(FakeDrivers(), tmp_path).take_up()


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (b"7\n7\n8\n", [7, 8]),
        (b"7\nx\n-1\n0\n99999999999999999999\n\xff 9\n", [7, 9]),
        (b"".join(b"%d\n" % number for number in range(1, 5000)), list(range(1, 1001))),
    ],
)
def test_list_of_jobs_is_read_with_care(data: bytes, ids: list[int]) -> None:
    """A driver runs code of its person."""
    ticket = DriverTicket.unwritten()
    fd = ticket.jobs_fd
    os.pwrite(fd, data, 0)

    assert ticket.job_ids == ids
    ticket.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
