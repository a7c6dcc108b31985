"""The broker's events: kept over a restart, told to those who follow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quakegrid.clients.happenings.events import decode
from quakegrid.services.broker.happenings import kept
from quakegrid.services.broker.happenings.book import EventBook


def test_events_outlive_the_broker(tmp_path: Path) -> None:
    """Also when its last line broke off; numbers go on."""
    first = EventBook(tmp_path)
    first.on_started("1.0")
    first.on_lane_lost(1912, "exit code 1")
    with (tmp_path / kept.FILE_NAME).open("a") as file:
        file.write('{"id": 3, "ti')

    second = EventBook(tmp_path)
    second.on_started("1.1")
    found = [decode(event) for event in EventBook(tmp_path).since(0, 100)]

    assert [(event.id, event.kind) for event in found] == [
        (1, "broker_started"),
        (2, "lane_lost"),
        (3, "broker_started"),
    ]
    assert found[1].is_trouble
    assert found[1].words == "the lane on port 1912 ended and is started again: exit code 1"


def test_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written anew when it has become too long."""
    monkeypatch.setattr(kept, "MOST_LINES", 10)
    book = EventBook(tmp_path)
    for _ in range(50):
        book.on_started("1.0")

    lines = (tmp_path / kept.FILE_NAME).read_text().splitlines()

    assert 10 <= len(lines) <= 50
    assert [event.id for event in EventBook(tmp_path).since(0, 1000)] == list(range(1, 51))


def test_disk_that_takes_nothing_costs_no_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning; the events are there until the broker ends."""
    book = EventBook(tmp_path / "no folder")
    for _ in range(3):
        book.on_started("1.0")

    assert len(book.since(0, 10)) == 3
    assert caplog.text.count("events_not_kept") == 1


def test_reader_gets_what_there_is_and_what_comes(tmp_path: Path) -> None:
    """The first answer comes at once, also if there is nothing."""

    async def read() -> list[list[int]]:
        book = EventBook(tmp_path)
        stream = book.follow(0)
        found = [await anext(stream)]
        book.on_started("1.0")
        found.append(await anext(stream))
        later = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        book.on_lane_lost(1912, "it died")
        found.append(await later)
        return [[event.id for event in events] for events in found]

    assert asyncio.run(read()) == [[], [1], [2]]
