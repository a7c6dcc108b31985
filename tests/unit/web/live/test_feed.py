"""One source, many readers, who lose nothing and hold up nobody."""

from __future__ import annotations

import asyncio

import pytest

from quakegrid.services.web.live import feed as feeds
from quakegrid.services.web.live.feed import Event, Feed


async def first(feed: Feed, number: int | None, count: int) -> list[list[Event] | None]:
    """What a reader is given, `count` times."""
    given = []
    async for events in feed.follow(number):
        given.append(events)
        if len(given) == count:
            break
    return given


def test_new_reader_begins_anew_and_goes_on() -> None:
    """None says that it has to look at the whole; then it gets what happens."""

    async def play() -> list[list[Event] | None]:
        feed = Feed()
        feed.tell("job", "1")
        reading = asyncio.create_task(first(feed, None, 2))
        await asyncio.sleep(0)
        feed.tell("job", "2")
        feed.tell("job", "3")
        return await reading

    assert asyncio.run(play()) == [None, [Event(2, "job", "2"), Event(3, "job", "3")]]


def test_reader_that_was_away_gets_what_it_missed() -> None:
    """By the number of the last event that it has seen."""

    async def play() -> list[list[Event] | None]:
        feed = Feed()
        for text in "abc":
            feed.tell("job", text)
        return await first(feed, 1, 1)

    assert asyncio.run(play()) == [[Event(2, "job", "b"), Event(3, "job", "c")]]


@pytest.mark.parametrize("number", [0, 9])
def test_reader_whose_events_are_gone_begins_anew(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have left the ring, or are of another run."""
    monkeypatch.setattr(feeds, "RING_SIZE", 2)

    async def play() -> list[list[Event] | None]:
        feed = Feed()
        for text in "abc":
            feed.tell("job", text)
        return await first(feed, number, 1)

    assert asyncio.run(play()) == [None]


def test_slow_reader_costs_the_ring_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that nobody takes are dropped; the reader begins anew."""
    monkeypatch.setattr(feeds, "RING_SIZE", 10)

    async def play() -> list[object]:
        feed = Feed()
        reader = feed.follow(None)
        given: list[object] = [await anext(reader)]
        for number in range(1000):
            feed.tell("job", str(number))
        given.append(await anext(reader))
        given.append(feed.number)
        return given

    assert asyncio.run(play()) == [None, None, 1000]


def test_end_lets_all_readers_go() -> None:
    """Those that wait, and those that come later."""

    async def play() -> list[list[list[Event] | None]]:
        feed = Feed()
        readers = [asyncio.create_task(first(feed, None, 5)) for _ in range(3)]
        await asyncio.sleep(0)
        feed.end()
        return [*await asyncio.gather(*readers), await first(feed, None, 1)]

    assert asyncio.run(play()) == [[None], [None], [None], []]
