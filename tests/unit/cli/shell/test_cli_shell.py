"""Commands that there are not, lists of commands, options that stand anywhere, colours."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.cli import jobs, options, run
from quakegrid.cli.shell import groups, near_words


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["rnu", "job.ini"], "quakegrid run"),
        (["upp"], "quakegrid up"),
        (["ps"], "quakegrid jobs list"),
        (["cancel", "3"], "quakegrid abort"),
        (["submit", "job.ini"], "quakegrid run --detach"),
        (["jobs", "lst"], "quakegrid jobs list"),
        (["workers", "stats"], "quakegrid workers status"),
    ],
)
def test_misspelled_command_gets_the_near_one(typed: list[str], meant: str) -> None:
    """And one of another program gets ours."""
    result = CliRunner().invoke(command_line.cli, typed, prog_name="quakegrid")

    assert result.exit_code == errors.EXIT_USAGE
    assert f"Did you mean `{meant}`?" in result.output


def test_word_that_is_like_none_gets_the_list() -> None:
    """Rather than a guess."""
    words = near_words.sentence("xyzzy", "quakegrid jobs", ["list", "show"])

    assert words == "quakegrid jobs has no command 'xyzzy'. `quakegrid jobs --help` lists all."


def test_words_of_other_programs_are_commands_here() -> None:
    """A command that is advised must be one."""
    for words in near_words.ELSEWHERE.values():
        first, *rest = words.split()
        assert first in command_line.ENTRIES or first == "--version", words
        if first == "jobs":
            assert rest[0] in jobs.jobs.commands


def test_list_of_commands_has_whole_sentences() -> None:
    """None ends in dots, in any group."""
    for name, entry in command_line.ENTRIES.items():
        command = command_line.CommandTable().get_command(click.Context(command_line.cli), name)
        assert isinstance(command, click.Command), entry
        if isinstance(command, click.Group):
            assert isinstance(command, groups.CommandGroup)
            help_text = command.get_help(click.Context(command, info_name=name))
            assert "..." not in help_text.partition("Commands:")[2], name


@pytest.mark.parametrize("place", ["before", "after"])
def test_state_dir_stands_anywhere(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the command, and after it."""
    seen = []
    monkeypatch.setattr(options, "cluster_settings", lambda: seen.append(options.state_dir()) or 1 / 0)
    words = ["--state-dir", str(tmp_path)]
    typed = [*words, "jobs", "list"] if place == "before" else ["jobs", "list", *words]

    CliRunner().invoke(command_line.cli, typed)

    assert seen == [tmp_path]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, None), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, None), ({"TERM": "dumb"}, False)],
)
def test_colours_are_left_out_where_they_are_not_wanted(environ: dict[str, str], wanted: bool | None) -> None:
    """By the convention of no-color.org; otherwise the terminal decides."""
    assert groups.wants_colour(environ) is wanted


def test_job_file_that_is_not_there_gets_the_near_one(tmp_path: Path) -> None:
    """Or the folder, if that is misspelled."""
    (tmp_path / "case_01").mkdir()
    (tmp_path / "case_01" / "job.ini").touch()

    with pytest.raises(errors.UsageError, match=r"does not exist; is .*case_01/job\.ini meant\?"):
        run.engine_argv(run.RunPlan([f"{tmp_path}/case_01/jbo.ini"]))
    with pytest.raises(errors.UsageError, match=r"does not exist; is .*/case_01 meant\?"):
        run.engine_argv(run.RunPlan([f"{tmp_path}/case_1/job.ini"]))
    with pytest.raises(errors.UsageError, match=r"qqqq does not exist$"):
        run.engine_argv(run.RunPlan([f"{tmp_path}/qqqq"]))
