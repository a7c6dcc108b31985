"""Every door, with a seed that is always the same; `make fuzz` tries others, for longer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.fuzz.doors.every import DOORS, SCENES
from tests.fuzz.harness import Figures, Order, drive

pytestmark = pytest.mark.alone  # holds the time that a neighbour waits to a bound

SEED = 1


class Scenes:
    """Services for one door after the other; new ones after a violation."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._name = ""

    def try_door(self, name: str) -> Figures:
        """Send the inputs of a door."""
        door = DOORS[name]()
        if door.scene != self._name:
            self.close()
            self._scene = self._stack.enter_context(SCENES[door.scene]())
            self._name = door.scene
        figures = drive(door, self._scene, Order(SEED, door.test_count))
        if figures.violations:
            self.close()
        return figures

    def close(self) -> None:
        """End the services."""
        self._name = ""
        self._stack.close()


@pytest.fixture(scope="module")
def scenes() -> Iterator[Scenes]:
    """Services that one door after the other must leave as they were."""
    scenes = Scenes()
    yield scenes
    scenes.close()


@pytest.mark.parametrize("name", DOORS)
def test_services_go_on_whatever_comes_in(name: str, scenes: Scenes) -> None:
    """Same processes, neighbours are served, memory, descriptors and logs stay as they were."""
    figures = scenes.try_door(name)

    assert figures.violations == [], figures
