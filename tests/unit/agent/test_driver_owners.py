"""Drivers are ended for their own person only: a driver tells its process id itself, perhaps another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quakegrid.services.agent.node.drivers import DriverFiles, Drivers
from quakegrid.services.agent.rules.roster_events import DriverAsked, KillAsked


class FakeChildren:
    """Children of a template that forks at once: the first driver has the process id 101."""

    def __init__(self) -> None:
        self.is_stopping = False
        self.accounts: dict[str, Any] = {}
        self.killed: list[str] = []
        self.roster = SimpleNamespace(drivers=[], members={})
        ready = SimpleNamespace(kind=None, is_ready=True)
        self.templates = SimpleNamespace(
            state=ready, loaded=SimpleNamespace(engine_missing=""), fork=self._fork
        )

    def _fork(self, _order: object, _fds: object) -> None:
        self.roster.drivers[-1].pid = 100 + len(self.roster.drivers)

    def handle(self, event: object) -> None:
        """Enter a driver, or note who is killed."""
        if isinstance(event, DriverAsked):
            self.roster.drivers.append(SimpleNamespace(name=event.name, pid=0))
        elif isinstance(event, KillAsked):
            self.killed.append(event.name)


@pytest.fixture
def children() -> FakeChildren:
    """Those of the agent."""
    return FakeChildren()


@pytest.fixture
def drivers(children: FakeChildren, tmp_path: Path) -> Drivers:
    """One driver of anna's, then one of ben's."""
    settings: Any = SimpleNamespace(log_dir=tmp_path)
    found = Drivers(settings, "n0", children, lambda: None)  # type: ignore[arg-type]
    for person in ("anna", "ben"):
        request = {"argv": ["run", "job.ini"], "mode": "run", "person": person}
        found.start(request, DriverFiles(0), lambda _code, _reason: None)
    return found


@pytest.mark.parametrize(
    ("pid", "person", "killed"),
    [
        (101, "anna", ["driver-1"]),
        (102, "anna", []),
        (102, "ben", ["driver-2"]),
        (102, "", ["driver-2"]),
        (103, "", []),
        (0, "", []),
    ],
)
def test_driver_of_another_person_is_left_alone(
    drivers: Drivers, children: FakeChildren, pid: int, person: str, killed: list[str]
) -> None:
    """An order without a name is a service's, and ends anybody's driver."""
    assert drivers.kill(pid, person) == bool(killed)
    assert children.killed == killed


def test_drivers_of_a_person_are_counted_until_they_end(drivers: Drivers) -> None:
    """Also those that go on without a command line."""
    assert (drivers.count_of("anna"), drivers.count_of("carla")) == (1, 0)

    drivers.on_end("driver-1", 0, "")

    assert (drivers.count_of("anna"), drivers.count_of("ben")) == (0, 1)
