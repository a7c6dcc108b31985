"""What a run shows of its progress: which warnings, which stage, how long it still takes."""

from __future__ import annotations

import pytest

from quakegrid.cli.views import progress, routine_warnings
from quakegrid.cli.views.stages import Stages


@pytest.mark.parametrize(
    "message",
    [
        "Sent 1 read_source_model tasks, 0 B",
        "Using 2 zmq workers, concurrent_tasks=4",
        "ann@vm running /home/ann/my model/job.ini --hc=None",
        "Stored 164.71 KB on /shared/ann/oqdata/calc_1.hdf5 in 0 seconds",
        "Global RateMap of 96 B (Gt=1)",
        "This is a calculation with 1 tasks, maxtiles=1, num_blocks=0",
        "Importing 3 files, 10 MB",
        "There were slow tasks",
    ],
)
def test_routine_of_the_engine_is_not_shown(message: str) -> None:
    """But to who wants to see all."""
    event = {"event": "log", "level": "WARNING", "message": message}

    assert routine_warnings.is_routine("WARNING", message)
    assert progress.event_line(event, verbose=False) is None
    assert progress.event_line(event, verbose=True) == f"WARNING {message}"


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("WARNING", "The parameter 'truncation_levl' is unknown, ignoring"),
        ("WARNING", "No rates were generated"),
        ("WARNING", "Resent 3 tasks"),
        ("ERROR", "Sent 1 classical tasks, 0 B"),
    ],
)
def test_what_a_person_should_see_is_shown(level: str, message: str) -> None:
    """Typos, results that are empty, errors."""
    event = {"event": "log", "level": level, "message": message}

    assert progress.event_line(event, verbose=False) == f"{level} {message}"


def test_stage_at_hand_is_the_newest_with_open_tasks() -> None:
    """One that ends inside of another gives it back."""
    stages = Stages()
    assert stages.current is None

    stages.take(1, "preclassical", (0, 4), 0.0)
    stages.take(1, "filter", (0, 2), 1.0)
    assert (stages.current.name, stages.current.number) == ("filter", 2)
    stages.take(1, "filter", (2, 2), 2.0)
    assert stages.current.name == "filter"
    stages.take(1, "preclassical", (1, 4), 3.0)

    assert (stages.current.name, stages.current.number) == ("preclassical", 1)
    stages.take(1, "filter", (2, 2), 4.0)
    assert stages.current.name == "preclassical"


def test_stages_are_counted_for_each_calculation() -> None:
    """The second one begins with its first stage."""
    stages = Stages()
    stages.take(1, "classical", (4, 4), 0.0)
    stages.take(2, "classical", (0, 4), 1.0)

    assert stages.current is not None
    assert (stages.current.number, stages.current.done_count) == (1, 0)


def test_time_left_goes_on_as_the_tasks_did() -> None:
    """It falls between two tasks, too, and never below nothing."""
    stages = Stages()
    assert stages.left_s(0.0) is None
    stages.take(1, "classical", (0, 10), 100.0)
    stages.take(1, "classical", (1, 10), 110.0)
    assert stages.left_s(110.0) is None
    stages.take(1, "classical", (2, 10), 120.0)

    assert stages.left_s(120.0) == pytest.approx(80.0)
    assert stages.left_s(130.0) == pytest.approx(70.0)
    assert stages.left_s(900.0) == 0.0
    stages.take(1, "classical", (10, 10), 900.0)
    assert stages.left_s(900.0) is None


def test_time_left_waits_for_a_moment() -> None:
    """Two tasks within the first second say little."""
    stages = Stages()
    stages.take(1, "classical", (2, 1000), 0.0)

    assert stages.left_s(0.5) is None
