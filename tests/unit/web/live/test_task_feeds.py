"""Whose tasks are followed: so many for all, and fewer for one person."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from quakegrid import errors
from quakegrid.services.web.live import tasks
from quakegrid.services.web.live.tasks import MOST_FOLLOWED, MOST_OF_PERSON, TaskFeed, TaskFeeds


@contextlib.contextmanager
def reading(feeds: TaskFeeds, *asked: tuple[int, str]) -> Iterator[None]:
    """Pages that look at calculations."""
    with contextlib.ExitStack() as pages:
        for job_id, person in asked:
            pages.enter_context(feeds.reading(job_id, person))
        yield


@pytest.fixture
def _follows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for_ever(_feed: TaskFeed) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(tasks.TaskFeed, "follow_source", wait_for_ever)


def all_of(person: str, first: int = 0) -> list[tuple[int, str]]:
    """As many calculations as a person may look at."""
    return [(first + number, person) for number in range(MOST_OF_PERSON)]


@pytest.mark.usefixtures("_follows_nothing")
def test_one_person_takes_not_the_places_of_all() -> None:
    """Further pages of the same calculations are for free, and others find room."""

    async def run() -> None:
        feeds = TaskFeeds(lambda: None)  # type: ignore[arg-type, return-value]
        with reading(feeds, *all_of("anna"), *all_of("anna")):
            with (
                pytest.raises(errors.StateError, match="you look at the tasks of 4"),
                reading(feeds, (99, "anna")),
            ):
                pass
            with reading(feeds, (99, "ben"), (1, "ben")):
                pass
        with reading(feeds, *all_of("anna", 50)):  # the pages are closed
            pass
        feeds.end()

    asyncio.run(run())


@pytest.mark.usefixtures("_follows_nothing")
def test_all_people_together_have_a_bound() -> None:
    """Calculations that nobody looks at make room."""

    async def run() -> None:
        feeds = TaskFeeds(lambda: None)  # type: ignore[arg-type, return-value]
        people = range(MOST_FOLLOWED // MOST_OF_PERSON)
        with reading(feeds, *(each for number in people for each in all_of(str(number), 10 * number))):
            with pytest.raises(errors.StateError, match="16 calculations"), reading(feeds, (99, "zoe")):
                pass
            with reading(feeds, (0, "zoe")):
                pass
        with reading(feeds, (99, "zoe")):
            pass
        feeds.end()

    asyncio.run(run())
