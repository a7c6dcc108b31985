"""The convention of code blocks: what `tests/manual` runs is found, and what it does not run says why."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tests.manual.matching import matches
from tests.manual.pages import NOTES, PROMPT, ROOT, all_pages, blocks_of, manual_pages, name_of, read_blocks
from tests.manual.reference.commands import all_commands

LANGUAGES = {"console", "ini", "json", "nftables", "python", "text", "yaml"}
PAGES = [*manual_pages(), ROOT / "README.md"]
COMMANDS = dict(all_commands())
CALL = re.compile(r"(?<!-u )(?<!-n )(?<!-C )(?<![\w/.-])((?:quakegrid|agentctl) [a-z][^`|;&>#\n]*)")
# Words behind a program that are none of its commands: `quakegrid oq` passes on what follows.
PASSES_ON = ("quakegrid", "oq")
READING = "$ first --option\n> second\nprinted\n$ next\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_follow_the_convention(page: Path) -> None:
    """A known language, known notes, commands behind a prompt, and a reason where nothing is run."""
    wrong = []
    for block in blocks_of(page):
        place = f"line {block.line - 1}"
        if block.language not in LANGUAGES:
            wrong.append(f"{place}: the language {block.language!r}")
        if unknown := set(block.notes) - set(NOTES):
            wrong.append(f"{place}: the notes {unknown}")
        if block.language == "console" and not block.lines[0].startswith(PROMPT):
            wrong.append(f"{place}: a terminal begins with `$ `")
        if len(block.notes.get("not run", "a reason in words").split()) < 3:
            wrong.append(f"{place}: why is it not run?")

    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_exist(page: Path) -> None:
    """Also those in tables and sentences, and those that are not run."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", text)
    typed = [command.text for block in blocks_of(page) for command in block.commands()]

    wrong = [
        f"{call}: {what}" for each in (*spans, *typed) for call in CALL.findall(each) if (what := fault(call))
    ]

    assert wrong == []


def fault(call: str) -> str:
    """What is wrong with a command line; empty if nothing is."""
    words = [word.strip("\"'()") for word in call.replace("[", " ").replace("]", " ").split()]
    path: tuple[str, ...] = (words[0],)
    command, options = COMMANDS[path], []
    for position, word in enumerate(words[1:], 1):
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            options.append(word.partition("=")[0].rstrip(",."))
        elif isinstance(command, click.Group):
            if path == (words[0],) and words[position - 1] in {"--cluster", "--state-dir"}:
                continue
            if (*path, word.rstrip(",.")) not in COMMANDS:
                return "" if re.fullmatch(r"[A-Z…]+|\.\.\.|VERB", word) else f"no command {word}"
            path = (*path, word.rstrip(",."))
            command = COMMANDS[path]
        if path == PASSES_ON:
            return ""
    known = {
        "-h",
        "--help",
        *(name for p in path_of(path) for param in COMMANDS[p].params for name in param.opts),
    }
    lost = [option for option in options if option not in known]
    return f"no option {lost}" if lost else ""


def path_of(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A command and the groups that it is in."""
    return [path[:count] for count in range(1, len(path) + 1)]


def test_terminal_has_commands_and_what_they_print() -> None:
    """Lines behind `> ` go on with a command."""
    (block,) = read_blocks(f"<!-- exit code: 3 -->\n```console\n{READING}```\n")

    first, second = block.commands()

    assert (first.text, first.output, first.line) == ("first --option\nsecond", ("printed",), 3)
    assert (second.text, second.output) == ("next", ())
    assert block.notes == {"exit code": "3"}
    assert block.is_run


def test_block_without_end_is_an_error() -> None:
    """And says in which line it begins."""
    with pytest.raises(ValueError, match="line 2"):
        list(read_blocks("words\n```text\nno end\n"))


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        (["job 7 in 0.5 s"], ["job 12 in 13.1 s"], True),
        (["offset 0.18 s"], ["offset -1.02 s"], True),
        (["id  b6b0d52e"], ["id   1234abcd"], True),
        (["a", "...", "z"], ["a", "b", "c", "z"], True),
        (["a", "...", "z"], ["a", "z"], True),
        (["at ... cores"], ["at most 2 cores"], True),
        (["id  state", "--  -----"], ["id state", "-- ---------"], True),
        (["complete"], ["failed"], False),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        ([], ["a word too many"], False),
        (["...b"], ["a", "b"], False),
    ],
)
def test_output_matches_whatever_its_numbers(shown: list[str], printed: list[str], *, is_same: bool) -> None:
    """Words count, numbers do not; `...` stands for anything."""
    assert matches(shown, printed) is is_same


def test_every_page_is_in_one_part() -> None:
    """Four parts, decisions, and the first page."""
    folders = {name_of(page).rpartition("/")[0] for page in all_pages()}

    assert folders == {"", "tutorial", "how-to", "reference", "background", "decisions"}


def test_code_stands_in_blocks() -> None:
    """Indented code would not be found by who runs the blocks."""
    lines = [(page, line) for page in PAGES for line in page.read_text(encoding="utf-8").split("\n")]

    assert [
        f"{page.name}: {line}"
        for page, line in lines
        if re.match(r"    \$ ", line) and page.stem not in NESTED
    ] == []


# Pages with blocks inside of numbered steps.
NESTED = {"upgrade", "migrate-from-oq"}
