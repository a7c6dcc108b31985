"""Command `plot`: the pictures of a calculation's results, as the web pages show them, in files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.results import sources
from quakegrid.cli.results.sources import ResultSource
from quakegrid.cli.shell import near_words
from quakegrid.cli.views import plots, render
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.own_jobs import own_job

Picture = dict[str, Any]


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.option("--list", "is_list", is_flag=True, help="Only list the pictures, and what can be chosen.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="This picture, such as hazard-curves (repeatable; default: all that there are).",
)
@click.option(
    "--choose",
    "choices",
    multiple=True,
    metavar="NAME=VALUE",
    help="What it shows, such as imt=PGA or site=0 (repeatable; --list shows what there is).",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(plots.FORMATS),
    default="png",
    show_default=True,
    help="Of the files.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Where the files go.",
)
@options.output_option
def plot(*, job_id: int, is_list: bool, kinds: tuple[str, ...], output: str, **wanted: Any) -> None:
    """Draw the results of a calculation into files.

    These are the pictures of the web pages: hazard curves, maps, spectra, disaggregation, losses, damage.
    With --json it prints their numbers, and draws nothing.

    Example: `quakegrid plot -1 --kind hazard-curves --choose site=3 --format svg`
    """
    chosen = _chosen(wanted["choices"])
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        job = own_job(database, job_id)
    if job.state.is_unsuccessful:
        raise errors.StateError(f"job {job.id} is {job.state} and has no results to draw")
    with sources.open_source(settings) as source:
        listed = source.pictures(job.id)
        if not listed:
            raise errors.NotFoundError(f"job {job.id} has no result that can be drawn")
        those = _wanted(kinds, [each["kind"] for each in listed])
        pictures = [_picture(source, job.id, kind, chosen) for kind in those]
    if is_list:
        _print_list(pictures, output)
    elif output == "json":
        render.print_json(pictures)
    else:
        folder: Path = wanted["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            path = folder / f"job-{job.id}-{picture['kind']}.{wanted['suffix']}"
            plots.draw(picture, path)
            click.echo(str(path) if output == "quiet" else f"figure: {path}")


def _chosen(choices: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for choice in choices:
        name, equals, value = choice.partition("=")
        if not name or not equals:
            raise errors.UsageError(f"--choose {choice}: give NAME=VALUE, such as --choose imt=PGA")
        found[name] = value
    return found


def _wanted(kinds: tuple[str, ...], there_are: list[str]) -> list[str]:
    """The kinds to draw: those that are named, or all."""
    for kind in kinds:
        if kind not in there_are:
            near = near_words.nearest(kind, there_are)
            hint = f"is {near} meant?" if near else f"there are {', '.join(there_are)}"
            raise errors.UsageError(f"this calculation has no picture {kind}; {hint}")
    return list(kinds) or there_are


def _picture(source: ResultSource, job_id: int, kind: str, chosen: dict[str, str]) -> Picture:
    """A picture, of what was chosen by number or by label."""
    first = source.picture(job_id, kind, {})
    numbers = {
        choice["name"]: _option(choice, chosen[choice["name"]])
        for choice in first["choices"]
        if choice["name"] in chosen
    }
    return source.picture(job_id, kind, numbers) if numbers else first


def _option(choice: dict[str, Any], text: str) -> str:
    """The number of an option that is named by its number or its label.

    Raises:
        UsageError: there is no such option.
    """
    labels = {str(label): str(number) for number, label in choice["options"]}
    if text in labels:
        return labels[text]
    if text in labels.values():
        return text
    shown = ", ".join(list(labels)[:10])
    raise errors.UsageError(f"--choose {choice['name']}={text}: there is no such option; there are {shown}")


def _print_list(pictures: list[Picture], output: str) -> None:
    rows = [
        {
            "kind": picture["kind"],
            "title": picture["title"],
            "choices": [
                f"{choice['name']} ({len(choice['options'])}: {choice['options'][0][1]}, …)"
                for choice in picture["choices"]
            ],
        }
        for picture in pictures
    ]
    if output == "json":
        rows = [
            {"kind": each["kind"], "title": each["title"], "choices": each["choices"]} for each in pictures
        ]
    render.print_listing(
        output, rows, {"kind": "kind", "title": "picture", "choices": "--choose"}, cut="title"
    )
