"""What is laid over a live file, by the example; properties are in tests/property."""

from __future__ import annotations

from quakegrid.files.rules.overlays import Overlay

LIVE = b"." * 20


def test_ranges_apart_touching_and_within_each_other() -> None:
    """Each byte that was copied is told as it was then, all others as they are now."""
    overlay = Overlay([(12, b"late"), (2, b"ab"), (4, b"cd"), (3, b"b")])

    assert overlay.lay_over(0, LIVE) == b"..abcd......late...."
    assert overlay.lay_over(13, LIVE[:2]) == b"at"
    assert overlay.lay_over(7, LIVE[:3]) == LIVE[:3]


def test_nothing_copied_changes_nothing() -> None:
    """The file as it is."""
    assert Overlay([]).lay_over(0, LIVE) is LIVE
