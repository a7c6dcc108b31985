"""Texts of others do nothing to a terminal, and forge no line of ours."""

from __future__ import annotations

import json

import pytest

from quakegrid.cli.views import render
from quakegrid.jobs import terminal_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich, 震度 5 🌍", "Zürich, 震度 5 🌍"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("a\nb\tc\rd\x00", r"a\nb\tc\rd\x00"),
        ("\x9b2J\u2028\u202etxt", r"\x9b2J\u2028\u202etxt"),
    ],
)
def test_one_line_shows_what_is_not_to_be_printed(text: str, shown: str) -> None:
    """Letters stay as they are; escape sequences and line breaks are shown as Python writes them."""
    assert terminal_text.one_line(text) == shown


def test_paragraph_indents_its_lines() -> None:
    """A traceback stays readable, and no line of it looks like the next line of a log."""
    text = "Traceback\r\n  File x\n2026-01-01 00:00:00 INFO forged\x1b[2J\roverwritten"

    lines = terminal_text.paragraph(text).split("\n")

    assert lines == [
        "Traceback",
        "      File x",
        "    2026-01-01 00:00:00 INFO forged\\x1b[2J\\roverwritten",
    ]


def test_tables_print_no_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in a listing nor in a record; JSON has the text as it is."""
    item = {"id": 1, "name": "evil\x1b[2J\nforged"}

    render.print_listing("table", [item], {"id": "id", "name": "name"})
    render.print_listing("quiet", [item], {"name": "name"})
    render.print_record("table", item)
    shown = capsys.readouterr().out
    render.print_json(item)
    document = capsys.readouterr().out

    assert "\x1b" not in shown
    assert "forged" not in [line.strip() for line in shown.splitlines()]
    assert json.loads(document) == item
