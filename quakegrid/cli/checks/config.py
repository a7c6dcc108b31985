"""Commands `config show` and `config check`: the settings that count here, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.shell import near_words
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render, widths

if TYPE_CHECKING:
    from quakegrid.settings.shown.effective import EffectiveConfig


@click.group("config", cls=CommandGroup)
def config_commands() -> None:
    """Show and check the settings of openquake.cfg.

    Example: `quakegrid config show broker`
    """


@config_commands.command()
@click.argument("names", metavar="[SECTION|KEY]...", nargs=-1)
@click.option("--set", "is_only_set", is_flag=True, help="Only what a file sets, no defaults.")
@options.output_option
def show(names: tuple[str, ...], is_only_set: bool, output: str) -> None:
    """Show the settings that count here, and where each comes from.

    Examples: `quakegrid config show`, `quakegrid config show broker`, `quakegrid config show --set --json`
    """
    found = _read(None)
    _check_names(names, found)
    rows = [
        each
        for each in found.settings
        if (not names or each.section in names or each.name in names)
        and not (is_only_set and each.is_default)
    ]
    if output == "json":
        render.print_json(rows)
        return
    listed = [
        {"key": f"[{each.section}] {each.name}", "value": each.value or "-", "source": each.source}
        for each in rows
    ]
    render.print_listing(output, listed, {"key": "key", "value": "value", "source": "from"}, cut="source")
    if output == "table":
        files = ", ".join(map(str, found.files)) or "no file; all are defaults"
        click.echo(widths.hanging("read, the last one wins: ", files))


@config_commands.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@options.output_option
def check(file: Path | None, output: str) -> None:
    """Check the settings: values, names that are misspelled, the authkey.

    Checks the files that count here, or one FILE alone.

    Examples: `quakegrid config check`, `quakegrid config check new.cfg`

    Ends with exit code 2 if QuakeGrid would not start with them.
    """
    found = _read(file)
    warnings = list(found.warnings)
    if not found.errors and file is None:
        warnings += [line for line in options.settings().warnings if line not in warnings]
    if output == "json":
        render.print_json({"is_valid": not found.errors, "errors": found.errors, "warnings": warnings})
    elif output == "quiet":
        for line in found.errors:
            click.echo(line)
    else:
        _print(found, warnings)
    if found.errors:
        click.get_current_context().exit(errors.EXIT_USAGE)


def _print(found: EffectiveConfig, warnings: list[str]) -> None:
    for line in found.errors:
        click.echo(widths.hanging("error    ", line))
    for line in warnings:
        click.echo(widths.hanging("warning  ", line))
    files = ", ".join(map(str, found.files)) or "no file: all settings are defaults"
    verdict = "these settings cannot be used" if found.errors else "these settings are fine"
    click.echo(widths.hanging(f"{verdict}: ", files))


def _read(file: Path | None) -> EffectiveConfig:
    from quakegrid.settings import config  # noqa: PLC0415 - not for --help
    from quakegrid.settings.shown import effective  # noqa: PLC0415 - as above

    state_dir = (options.state_dir() or config.default_state_dir()).absolute()
    return effective.read(state_dir, config.config_paths(state_dir) if file is None else [file])


def _check_names(wanted: tuple[str, ...], found: EffectiveConfig) -> None:
    """Refuse a section or key that there is not."""
    known = {each.section for each in found.settings} | {each.name for each in found.settings}
    for name in wanted:
        if name not in known:
            near = near_words.nearest(name, known)
            raise errors.UsageError(
                f"there is no section or key {name}" + (f"; is {near} meant?" if near else "")
            )
