"""Texts of others, made fit to travel."""

from __future__ import annotations

from quakegrid.jobs import texts
from quakegrid.wire.v1 import lane_pb2


def test_short_text_stays_as_it_is() -> None:
    """To the last byte that it may have."""
    assert texts.bounded("é" * 50, 100) == "é" * 50


def test_long_text_keeps_its_beginning_and_its_end() -> None:
    """Which of a traceback tell most; the size is in bytes, and no character is cut."""
    text = "begin" + "é" * 10_000 + "end"

    bounded = texts.bounded(text, 1001)

    assert bounded.startswith("begin")
    assert bounded.endswith("end")
    assert "bytes are left out" in bounded
    assert 900 < len(bounded.encode()) <= 1001


def test_text_that_is_not_unicode_can_travel() -> None:
    """Names of files may be anything; a message would refuse it, and its sender would die of that."""
    assert lane_pb2.Outcome(error=texts.bounded("cannot open \udc80", 1000)).error == "cannot open ?"


def test_long_text_for_people_says_how_much_is_missing() -> None:
    """Such as a log line that the dbserver would not take."""
    assert texts.shorten("x" * 1000, 1000) == "x" * 1000
    assert texts.shorten("x" * 1007, 1000) == "x" * 1000 + " ... (7 more characters were left out)"


def test_text_whose_end_matters_loses_its_middle() -> None:
    """Such as an error that ends with the command that fixes it."""
    text = "it failed" + "x" * 1000 + "run this"

    short = texts.shorten(text, 100, texts.Cut.MIDDLE)

    assert short.startswith("it failed")
    assert short.endswith("run this")
    assert len(short) == 100 + len(" … ")
