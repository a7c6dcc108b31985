"""Places for requests that run a driver: some at once, fewer for each person, and a bound on those that wait.

A person can stop a driver that runs as their account, and so keep its place until its time is over. Others
then still have places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from quakegrid import errors

RUNNING_COUNT = 4
OF_PERSON_COUNT = 2
WAITING_COUNT = 64
WAITING_OF_PERSON_COUNT = 16


class DriverPlaces:
    """Gives places to requests in the order in which they come."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(RUNNING_COUNT)
        self._of_person: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, person: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it.

        Args:
            person: who asks; empty where all drivers run as one account.
        Raises:
            PeerUnreachableError: too many wait already.
        """
        most = WAITING_OF_PERSON_COUNT if person else WAITING_COUNT
        count = max(self._waiting[person], self._waiting.total() - WAITING_COUNT + most)
        if count >= most:
            raise errors.PeerUnreachableError(f"{count} requests wait for the engine; try again later")
        # The first of a person make it; it lives as long as one of them.
        own = self._of_person.setdefault(
            person, asyncio.Semaphore(OF_PERSON_COUNT if person else RUNNING_COUNT)
        )
        self._waiting[person] += 1
        try:
            await own.acquire()
            try:
                await self._all.acquire()
            except BaseException:
                own.release()
                raise
        finally:
            self._waiting[person] -= 1
            self._waiting += Counter()  # drops those that are 0
        try:
            yield
        finally:
            self._all.release()
            own.release()
