"""Nobody takes all places for drivers, or all places to wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from quakegrid import errors
from quakegrid.services.web.persons import places
from quakegrid.services.web.persons.places import DriverPlaces


class Crowd:
    """Requests that run until they are let go."""

    def __init__(self) -> None:
        self.places, self.running = DriverPlaces(), list[str]()
        self._is_over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, person: str, count: int = 1) -> None:
        """Ask for some."""
        self._tasks += [asyncio.create_task(self._hold(person)) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def end(self) -> None:
        """Let all go."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    def cancel(self, place: int) -> None:
        """One goes away."""
        self._tasks[place].cancel()

    async def settle(self, place: int) -> None:
        """Wait until one has gone away."""
        await asyncio.wait([self._tasks.pop(place)])

    async def _hold(self, person: str) -> None:
        async with self.places.take(person):
            self.running.append(person)
            await self._is_over.wait()


def run(play: Callable[[Crowd], Awaitable[None]]) -> None:
    """Play in a loop."""

    async def playing() -> None:
        await play(Crowd())

    asyncio.run(playing())


def test_person_gets_some_places_and_others_the_rest() -> None:
    """Also if the person asks first, and more often."""

    async def play(crowd: Crowd) -> None:
        await crowd.ask("ben", 10)
        await crowd.ask("anna", 3)
        assert sorted(crowd.running) == ["anna", "anna", "ben", "ben"]
        await crowd.end()
        assert len(crowd.running) == 13

    run(play)


def test_one_account_for_all_gets_all_places() -> None:
    """As on a machine of one's own."""

    async def play(crowd: Crowd) -> None:
        await crowd.ask("", 6)
        assert len(crowd.running) == places.RUNNING_COUNT
        await crowd.end()
        assert len(crowd.running) == 6

    run(play)


def test_those_who_wait_are_bounded() -> None:
    """For each person, so that others can wait, too; and for all together."""

    async def is_refused(crowd: Crowd, person: str) -> bool:
        try:
            async with asyncio.timeout(0), crowd.places.take(person):
                return False
        except errors.PeerUnreachableError:
            return True
        except TimeoutError:
            return False

    async def play(crowd: Crowd) -> None:
        most = places.OF_PERSON_COUNT + places.WAITING_OF_PERSON_COUNT
        await crowd.ask("ben", most)
        assert await is_refused(crowd, "ben")
        assert not await is_refused(crowd, "anna")
        for name in ("a", "b"):
            await crowd.ask(name, places.WAITING_OF_PERSON_COUNT)
        assert not await is_refused(crowd, "anna")
        await crowd.ask("c", places.WAITING_OF_PERSON_COUNT)
        await crowd.ask("d", places.OF_PERSON_COUNT)
        assert await is_refused(crowd, "anna")
        assert await is_refused(crowd, "")
        await crowd.end()
        assert not await is_refused(crowd, "anna")

    run(play)


def test_who_goes_away_gives_the_place_back() -> None:
    """While it waits, and while it runs."""

    async def play(crowd: Crowd) -> None:
        await crowd.ask("ben", 4)
        crowd.cancel(3)
        await crowd.settle(3)
        crowd.cancel(0)
        await crowd.settle(0)
        await crowd.ask("anna", 2)
        assert sorted(crowd.running) == ["anna", "anna", "ben", "ben", "ben"]
        await crowd.end()

    run(play)
