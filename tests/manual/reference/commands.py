"""All commands with their help, and with a sample from the first page of the manual that uses the command."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from quakegrid.cli.__main__ import SECTIONS, cli
from quakegrid.services.agent.agentctl.__main__ import cli as agentctl
from tests.manual.pages import Block, Command, blocks_of, manual_pages, name_of

WIDTH = 90
MOST_LINES = 16  # of a sample
_HEAD = """\
# Commands

*Generated from the code by `make reference`.*

Every command has `--help`. Commands that list something have `--output table`, `json` or `quiet`. A sample is
taken from a page of this manual, where a test compares it with what the command prints.

"""


def markdown() -> str:
    """The page."""
    samples = list(shown_commands())
    return _HEAD + "".join([*_list(), *_chapters(samples)])


def all_commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, as one types it, from the program on; groups come before what is in them."""
    for name, program in (("quakegrid", cli), ("agentctl", agentctl)):
        yield from _inside((name,), program)


def _inside(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command, info_name=path[-1]) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from _inside((*path, name), found)


def shown_commands() -> Iterator[tuple[str, Command]]:
    """The commands of all pages that are run, with the page."""
    for page in sorted(manual_pages(), key=lambda page: (page.parent.name != "how-to", page)):
        for block in blocks_of(page):
            yield from ((name_of(page), command) for command in _runs(block))


def _runs(block: Block) -> list[Command]:
    return block.commands() if block.is_run else []


def _list() -> Iterator[str]:
    """A table of the commands of the first level."""
    yield "| command | |\n|---|---|\n"
    for entries in SECTIONS.values():
        for name, entry in entries.items():
            yield f"| [`quakegrid {name}`](#quakegrid-{name}) | {entry.short_help} |\n"
    yield "| [`agentctl`](#agentctl) | Serve this node's cores to a cluster, and see what they do. |\n"


def _chapters(samples: list[tuple[str, Command]]) -> Iterator[str]:
    for path, command in all_commands():
        name = " ".join(path)
        level = "##" if len(path) < 3 and path != ("quakegrid",) else "###"
        yield f"\n{level if path != ('agentctl',) else '##'} {name}\n\n```text\n{_help(path, command)}```\n"
        if not isinstance(command, click.Group):
            yield _sample(name, samples)


def _help(path: tuple[str, ...], command: click.Command) -> str:
    width = {"max_content_width": WIDTH, "terminal_width": WIDTH, "help_option_names": ["-h", "--help"]}
    context = click.Context(command, info_name=" ".join(path), **width)
    return "".join(f"{line.rstrip()}\n" for line in command.get_help(context).splitlines())


def _sample(name: str, samples: list[tuple[str, Command]]) -> str:
    pattern = re.compile(rf"^{re.escape(name)}(?![\w-])")
    for page, command in samples:
        if pattern.match(command.text) and command.output:
            lines = command.output[:MOST_LINES] + (("...",) if len(command.output) > MOST_LINES else ())
            text = "\n".join((f"$ {command.text}", *lines))
            return f"\nFrom [{page}](../{page}):\n\n```text\n{text}\n```\n"
    return ""
