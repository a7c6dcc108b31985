"""What fits a terminal; pipes get all."""

from __future__ import annotations

import io
import os
import sys

import pytest

from quakegrid.cli.views import render, widths


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighty columns."""
    monkeypatch.setattr(widths, "of_output", lambda: 80)


ITEM = {"id": 4711, "mode": "event_based_damage", "words": "a description that goes on " * 5}
COLUMNS = {"id": "id", "mode": "mode", "words": "words"}


@pytest.mark.usefixtures("terminal")
def test_table_is_cut_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """One column gives way, visibly."""
    render.print_listing("table", [ITEM], COLUMNS, cut="words")

    lines = capsys.readouterr().out.splitlines()

    assert max(map(len, lines)) == 80
    assert lines[-1].endswith("…")


@pytest.mark.usefixtures("terminal")
def test_json_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get all, also in a terminal."""
    render.print_listing("json", [ITEM], COLUMNS, cut="words")

    assert ITEM["words"] in capsys.readouterr().out


def test_pipe_gets_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is broken or cut where nobody looks; a table of nothing has its headings."""
    render.print_listing("table", [ITEM], COLUMNS, cut="words")
    render.print_listing("table", [], COLUMNS, cut="words")

    assert str(ITEM["words"]).strip() in capsys.readouterr().out
    assert widths.hanging("head ", "words " * 40) == "head " + "words " * 40


@pytest.mark.usefixtures("terminal")
def test_long_words_hang_below_their_head() -> None:
    """A name that is too long for a line stays whole."""
    name = "x" * 100

    lines = widths.hanging("12:00:00 ", f"{'many words ' * 12}{name}").splitlines()

    assert all(len(line) <= 80 or name in line for line in lines)
    assert all(line.startswith(" " * 9) for line in lines[1:])
    assert widths.hanging("head ", "") == "head "


def test_durations_are_short() -> None:
    """Six characters at most, up to a year."""
    assert [render.short_time(each) for each in (0.4, 59, 61, 3661, 90_000, -3)] == [
        "0s", "59s", "1m01s", "1h01m", "1d01h", "0s",
    ]  # fmt: skip


def test_narrow_terminal_leaves_out_spare_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it must, in their order; a pipe gets all."""
    columns = {"a": ["a", "1234"], "b": ["b", "1234"], "c": ["c", "1234"]}

    monkeypatch.setattr(widths, "of_output", lambda: 16)
    assert widths.kept(columns, ["c", "b"]) == ["a", "b", "c"]
    monkeypatch.setattr(widths, "of_output", lambda: 15)
    assert widths.kept(columns, ["c", "b"]) == ["a", "b"]
    monkeypatch.setattr(widths, "of_output", lambda: 1)
    assert widths.kept(columns, ["c", "b"]) == ["a"]
    monkeypatch.setattr(widths, "of_output", lambda: None)
    assert widths.kept(columns, ["c", "b"]) == ["a", "b", "c"]


def test_paragraph_is_indented_from_its_second_line_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets one line."""
    monkeypatch.setattr(widths, "of_output", lambda: 20)
    assert widths.paragraph("one two three four five", 4) == "one two three four\n    five"
    monkeypatch.setattr(widths, "of_output", lambda: None)
    assert widths.paragraph("one two three four five", 4) == "one two three four five"


@pytest.mark.parametrize("columns", [None, 80])
def test_foreign_text_commands_no_terminal(columns: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description may hold what clears a screen, or a line that looks like ours."""
    monkeypatch.setattr(widths, "of_output", lambda: columns)

    assert widths.paragraph("a\x1b[2Jb\nc", 2) == r"a\x1b[2Jb c"
    assert widths.hanging("head ", "a\x1b]0;title\x07b\nc") == r"head a\x1b]0;title\x07b c"


class FakeStream(io.StringIO):
    """Of a terminal, or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        """As it was made."""
        return self.is_terminal

    def fileno(self) -> int:
        """Of stderr."""
        return 2


@pytest.mark.parametrize(
    ("out", "err", "columns", "wanted"),
    [(False, False, "", None), (True, True, "100", 100), (False, True, "", 132), (False, True, "90", 90)],
    ids=["no terminal", "terminal", "results into a pipe", "the person's wish"],
)
def test_words_have_the_width_of_their_own_terminal(
    monkeypatch: pytest.MonkeyPatch, *, out: bool, err: bool, columns: str, wanted: int | None
) -> None:
    """Results may go elsewhere."""
    monkeypatch.setattr(sys, "stdout", FakeStream(is_terminal=out))
    monkeypatch.setattr(sys, "stderr", FakeStream(is_terminal=err))
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((132, 24)))
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)

    assert widths.of_talk() == wanted


def test_words_keep_their_lines_and_indentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line by itself; without what a terminal would obey, also in a pipe, which `tee` may show there."""
    text = "\n  one two three four five\nsix\x1b[2J"
    monkeypatch.setattr(widths, "of_talk", lambda: 16)

    assert widths.talk(text) == "\n  one two three\n    four five\nsix\\x1b[2J"

    monkeypatch.setattr(widths, "of_talk", lambda: None)
    assert widths.talk(text) == "\n  one two three four five\nsix\\x1b[2J"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "to try again: quakegrid jobs export 12 /long/path",
            ["to try again:", "  quakegrid jobs export 12 /long/path"],
        ),
        (
            "to try again: quakegrid jobs export 12 '/long, or/a b'",
            ["to try again:", "  quakegrid jobs export 12 '/long, or/a b'"],
        ),
        (
            "next: quakegrid jobs show 12, agentctl cores 4; and no more words",
            ["next:", "  quakegrid jobs show 12,", "  agentctl cores 4; and", "  no more words"],
        ),
        (
            "an admin makes it (`sudo -u openquake quakegrid authkey`) for you",
            ["an admin makes it", "  (`sudo -u openquake quakegrid authkey`)", "  for you"],
        ),
        ("oq engine --run job.ini. Then wait for it", ["oq engine --run job.ini.", "  Then wait for it"]),
        ("words of quakegrid: one two three", ["words of quakegrid: one", "  two three"]),
    ],
)
def test_command_stays_on_one_line(text: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """People copy it; its first line alone would be another command, such as one that writes elsewhere."""
    monkeypatch.setattr(widths, "of_talk", lambda: 24)
    monkeypatch.setattr(widths, "of_output", lambda: 24)

    assert widths.talk(text).splitlines() == lines
    assert widths.paragraph(text, 2).splitlines() == lines


def test_command_in_a_value_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in what `agentctl status` tells."""
    monkeypatch.setattr(widths, "of_output", lambda: 30)

    assert widths.hanging("master  ", "not joined (see `agentctl doctor --all`)").splitlines() == [
        "master  not joined (see",
        "        `agentctl doctor --all`)",
    ]
