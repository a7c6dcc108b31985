"""Events as bytes: made once for all readers, and kept within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from quakegrid.services.web.live import feed as feeds
from quakegrid.services.web.live import frames
from quakegrid.services.web.live.feed import Feed
from quakegrid.services.web.live.frames import BEAT, MOST_KEPT, RUN, Frames

READERS = 200


async def turn_until(is_done: Callable[[], bool]) -> None:
    """Turn the event loop until something is so."""
    while not is_done():  # noqa: ASYNC110 - turns are what is counted
        await asyncio.sleep(0)


def test_events_are_as_browsers_read_them() -> None:
    """Id, kind and value; several at once."""
    feed = Feed()
    feed.tell("job", '{"id": 1}')
    feed.tell("gone", '{"id": 2}')

    made = Frames(feed, "jobs", lambda: "[]").of(feed.since(0))

    expected = (
        f'id: {RUN}-1\nevent: job\ndata: {{"id": 1}}\n\nid: {RUN}-2\nevent: gone\ndata: {{"id": 2}}\n\n'
    )
    assert made == expected.encode()


@pytest.mark.parametrize("is_anew", [False, True])
def test_reader_that_begins_anew_gets_the_whole(*, is_anew: bool) -> None:
    """Also if what has happened is that all is new."""
    feed = Feed()
    feed.tell("anew", "{}")

    made = Frames(feed, "jobs", lambda: "[1]").of(feed.since(0) if is_anew else None)

    assert made == f"id: {RUN}-1\nevent: jobs\ndata: [1]\n\n".encode()


def test_nothing_is_a_sign_of_life() -> None:
    """A comment, which browsers pass over."""
    assert Frames(Feed(), "jobs", str).of([]) == BEAT


def test_all_readers_get_the_same_bytes() -> None:
    """The whole is asked for once for all of them, and again after the next event."""
    asked = []

    def snapshot() -> str:
        asked.append(1)
        return "[]"

    async def read(feed: Feed, made: Frames, got: list[bytes]) -> None:
        async for events in feed.follow(None):
            got.append(made.of(events))  # noqa: PERF401 - looked at before the end

    async def play() -> list[bytes]:
        feed = Feed()
        made = Frames(feed, "jobs", snapshot)
        got: list[bytes] = []
        readers = [asyncio.create_task(read(feed, made, got)) for _ in range(READERS)]
        await turn_until(lambda: len(got) == READERS)
        feed.tell("job", "1")
        await turn_until(lambda: len(got) == 2 * READERS)
        feed.end()
        await asyncio.gather(*readers)
        return got

    got = asyncio.run(play())

    assert len({id(each) for each in got}) == 2
    assert len(asked) == 1


def test_readers_are_woken_a_few_in_a_turn() -> None:
    """So that others are answered between them; each is woken once for each ring of the bell."""
    woken = 0

    async def read(feed: Feed) -> None:
        nonlocal woken
        async for _ in feed.follow(0):
            woken += 1

    async def play() -> list[int]:
        nonlocal woken
        feed = Feed()
        readers = [asyncio.create_task(read(feed)) for _ in range(READERS)]
        await turn_until(lambda: woken == READERS)
        await asyncio.sleep(0)
        woken = 0
        feed.tell("job", "1")
        counts = []
        while woken < READERS:
            before = woken
            await asyncio.sleep(0)
            counts.append(woken - before)
        feed.end()
        await asyncio.gather(*readers)
        return counts

    counts = asyncio.run(play())

    assert max(counts) <= feeds.WOKEN_AT_ONCE
    assert sum(counts) == READERS


def test_what_is_kept_is_bounded() -> None:
    """However many readers are at different events."""
    feed = Feed()
    made = Frames(feed, "jobs", str)
    for _ in range(3 * MOST_KEPT):
        feed.tell("job", "1")

    for number in range(3 * MOST_KEPT):
        assert made.of(feed.since(number)).count(b"\n\n") == 3 * MOST_KEPT - number

    assert len(made._kept) == MOST_KEPT
    assert len(feed._since) == feeds.MOST_KEPT


# RUN is another in each process, and names of tests must be the same in those of pytest-xdist.
@pytest.mark.parametrize("text", ["", "x", "1", "other-1", "RUN-", "RUN-x", "RUN-٣", f"RUN-{'9' * 30}"])
def test_ids_of_others_are_none(text: str) -> None:
    """Of an earlier service, or of nobody."""
    assert frames.number_of(text.replace("RUN", RUN)) is None


def test_id_of_this_run_has_a_number() -> None:
    """With which a reader goes on."""
    assert frames.number_of(f"{RUN}-12") == 12
