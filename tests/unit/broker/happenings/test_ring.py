"""The last events: numbered, bounded, and no flood of them."""

from __future__ import annotations

from quakegrid.services.broker.happenings.notable import Happening, HappeningKind
from quakegrid.services.broker.happenings.ring import BURST, KEPT, RATE_HZ, EventRing, Numbered

NEWS = Happening(HappeningKind.NODE_UP, "node n1 is up")


def test_events_rise_and_the_oldest_make_room() -> None:
    """A reader gets the newest of those that it does not know."""
    ring = EventRing()
    for second in range(KEPT + 5):
        ring.add(NEWS, 0.0, float(second))

    everything = ring.all()

    assert [event.id for event in everything] == list(range(6, KEPT + 6))
    assert [event.id for event in ring.since(KEPT + 3)] == [KEPT + 4, KEPT + 5]
    assert [event.id for event in ring.since(0, 2)] == [KEPT + 4, KEPT + 5]
    assert ring.since(KEPT + 5) == []


def test_numbers_go_on_after_a_restart() -> None:
    """A reader who knows later ones than there are gets all: its numbers are of another list."""
    ring = EventRing([Numbered(7, 1.0, NEWS), Numbered(9, 2.0, NEWS)])

    (added,) = ring.add(NEWS, 3.0, 0.0)

    assert added.id == 10
    assert [event.id for event in ring.since(7)] == [9, 10]
    assert [event.id for event in ring.since(4711)] == [7, 9, 10]


def test_flood_is_cut_and_counted() -> None:
    """A million events at once cost a ring of two hundred, and one that says how many are missing."""
    ring = EventRing()
    listed = sum(len(ring.add(NEWS, 0.0, 0.0)) for _ in range(100_000))

    later = ring.add(NEWS, 1.0, 10.0)

    assert listed == BURST
    assert [event.happening.kind for event in later] == [HappeningKind.LEFT_UNSAID, HappeningKind.NODE_UP]
    assert later[0].happening.words.startswith(f"{100_000 - int(BURST)} more")
    assert sum(bool(ring.add(NEWS, 1.0, 10.0)) for _ in range(1000)) == 10 * RATE_HZ - 1
