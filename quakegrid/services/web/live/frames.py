"""Server-sent events as bytes: each is made once for all the pages that get it. Pure."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Hashable, Sequence

from quakegrid.services.web.live.feed import Event, Feed

# Numbers of events begin anew with each start of this service.
RUN = secrets.token_hex(4)
# Readers who wait for the same feed get one of these few.
MOST_KEPT = 64
# People whose frames are kept.
MOST_READERS = 256
BEAT = b": still here\n\n"


def event(kind: str, text: str, event_id: str) -> bytes:
    """One event as it goes over the wire; `text` has no line ends, as JSON has none."""
    return f"id: {event_id}\nevent: {kind}\ndata: {text}\n\n".encode()


def number_of(event_id: str) -> int | None:
    """The number of an event of this run by its id; None if it is of none."""
    run, _, number = event_id.partition("-")
    return int(number) if run == RUN and number.isascii() and number.isdigit() and len(number) < 19 else None


class Frames:
    """Events of a feed as bytes, which are kept until the next event.

    Args:
        feed: the source.
        whole: kind of the event that has its snapshot.
        snapshot: gives that, as JSON.
        change: makes of each other event what these readers get of it; None for the event as it is.
    """

    def __init__(
        self,
        feed: Feed,
        whole: str,
        snapshot: Callable[[], str],
        change: Callable[[Event], Event] | None = None,
    ) -> None:
        self._feed, self._whole, self._snapshot, self._change = feed, whole, snapshot, change
        self._number = -1
        self._kept: dict[Hashable, bytes] = {}

    def of(self, events: Sequence[Event] | None) -> bytes:
        """What a reader gets for what `Feed.follow` gave it."""
        if events is not None and not events:
            return BEAT
        if self._number != self._feed.number:
            self._number = self._feed.number
            self._kept.clear()
        is_whole = events is None or any(each.kind == "anew" for each in events)
        key = None if events is None or is_whole else (events[0].number, events[-1].number)
        found = self._kept.get(key)
        if found is None:
            found = self._made(None if is_whole else events)
            if len(self._kept) < MOST_KEPT:
                self._kept[key] = found
        return found

    def _made(self, events: Sequence[Event] | None) -> bytes:
        if events is None:
            return event(self._whole, self._snapshot(), f"{RUN}-{self._number}")
        events = events if self._change is None else list(map(self._change, events))
        return b"".join(event(each.kind, each.text, f"{RUN}-{each.number}") for each in events)


def kept_by_reader(frames_for: Callable[[str], Frames]) -> Callable[[str], Frames]:
    """What makes the frames of a person, which keeps those of the people who asked last."""
    return functools.lru_cache(MOST_READERS)(frames_for)
