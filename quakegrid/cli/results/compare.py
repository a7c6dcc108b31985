"""Command `jobs compare`: what differs between two calculations: parameters, inputs, times, results.

`quakegrid.comparison` compares; this module gets what is compared, and prints what differs.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.results import sources
from quakegrid.cli.results.sources import ResultSource
from quakegrid.cli.views import render, widths
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.own_jobs import own_job
from quakegrid.comparison import numbers, parameters, tables
from quakegrid.comparison.numbers import Tolerance
from quakegrid.comparison.parameters import ParameterDifference
from quakegrid.comparison.tables import CsvTable, Likeness, TableDifference
from quakegrid.jobs.values import Job

# Of the files of one calculation, which are held in memory. What is more is not compared.
MOST_BYTES = 200 << 20
# Of a value of a parameter, on a screen.
MOST_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class ComparedJob:
    """What is told of each of the two calculations."""

    job_id: int
    state: str
    mode: str
    user: str
    took_s: float | None
    size_mb: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs.

    Args:
        left: of the first calculation.
        right: of the second.
        is_same: whether all results are the same, numbers within the tolerance; None if none was compared.
        parameters: that differ.
        inputs: files whose contents differ, or that nobody can compare any more.
        results: all, with what differs.
        too_large: names of files that were not compared.
    """

    left: ComparedJob
    right: ComparedJob
    is_same: bool | None
    parameters: list[ParameterDifference]
    inputs: list[ParameterDifference]
    results: list[TableDifference]
    too_large: list[str] = field(default_factory=list)


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("first", metavar="A", type=options.JOB_ID)
@click.argument("second", metavar="B", type=options.JOB_ID)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=numbers.RELATIVE,
    show_default=True,
    metavar="PART",
    help="Numbers are the same if they differ by no more than this part of the larger one.",
)
@click.option("--no-results", is_flag=True, help="Compare parameters, inputs and times only.")
@options.output_option
def compare(first: int, second: int, tolerance: float, no_results: bool, output: str) -> None:
    """Compare two calculations: parameters, inputs, times, results.

    Inputs are compared by their contents. Results are compared as the CSV files that the engine exports,
    value by value.

    Example: `quakegrid jobs compare -2 -1 --tolerance 0.01`

    Numbers are the same within --tolerance; the page that compares two calculations shows differences of
    the last digits, too.

    Ends with exit code 0 if the results are the same, and with 1 if they are not, or if there are none. With
    --no-results it ends with 0, and says nothing of them.
    """
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        jobs = [own_job(database, number) for number in (first, second)]
    for job in jobs:
        if not job.state.is_final or job.state.is_unsuccessful:
            raise errors.StateError(f"job {job.id} is {job.state} and has no results to compare")
    with sources.open_source(settings) as source:
        found = _compare(source, jobs, None if no_results else Tolerance(tolerance))
    if output == "json":
        render.print_json(found)
    elif output == "quiet":
        for each in found.results:
            if each.likeness is not Likeness.SAME:
                click.echo(each.name)
    else:
        _print(found, has_results=not no_results)
    if found.is_same is False:
        click.get_current_context().exit(errors.EXIT_FAILED)


def _compare(source: ResultSource, jobs: Sequence[Job], tolerance: Tolerance | None) -> Comparison:
    left, right = jobs
    changed = parameters.differing(source.parameters(left.id), source.parameters(right.id))
    inputs = parameters.differing_inputs(source.inputs(left.id), source.inputs(right.id))
    if tolerance is None:
        return Comparison(_compared(left), _compared(right), None, changed, inputs, [])
    too_large: set[str] = set()
    found = [_tables(source, job, too_large) for job in jobs]
    ours, theirs = ({name: each[name] for name in each if name not in too_large} for each in found)
    results = tables.compare_all(ours, theirs, tolerance)
    if not results and not too_large:
        raise errors.NotFoundError(
            f"neither job {left.id} nor job {right.id} has a result that can be exported as CSV; "
            "--no-results compares parameters, inputs and times only"
        )
    is_same = tables.is_same(results) and not too_large
    return Comparison(_compared(left), _compared(right), is_same, changed, inputs, results, sorted(too_large))


def _compared(job: Job) -> ComparedJob:
    took = job.stop_time - job.start_time if job.stop_time else None
    size = job.size_mb if job.size_mb is not None and job.size_mb >= 0 else None
    seconds = None if took is None else took / datetime.timedelta(seconds=1)
    return ComparedJob(job.id, str(job.state), job.calculation_mode, job.user_name, seconds, size)


def _tables(source: ResultSource, job: Job, too_large: set[str]) -> dict[str, CsvTable]:
    """The results of a calculation by name; notes those for which there is no room."""
    found = {}
    left_bytes = MOST_BYTES
    with tempfile.TemporaryDirectory(prefix="quakegrid-compare-") as name:
        for path in source.export_csv(job.id, Path(name)):
            result = tables.result_name(path.name, job.id)
            size = path.stat().st_size
            if size > left_bytes:
                too_large.add(result)
            else:
                left_bytes -= size
                found[result] = tables.read(path.read_text(encoding="utf-8", errors="replace"))
    return found


def _print(found: Comparison, *, has_results: bool) -> None:
    _print_jobs(found)
    click.echo()
    _print_differing(found.parameters, "", "The parameters are the same.")
    _print_differing(found.inputs, "input ", "The inputs are the same.")
    if not has_results:
        return
    click.echo()
    differing = [each for each in found.results if each.likeness is not Likeness.SAME]
    if differing:
        rows = [
            {
                "name": each.name,
                "what": f"{each.differing_count} of {each.count}" if each.count else each.likeness.value,
                "largest": f"{each.largest:.2g}" if each.largest else "-",
                "where": each.where or "-",
            }
            for each in differing
        ]
        headings = {"name": "result", "what": "differ", "largest": "largest", "where": "where"}
        render.print_listing("table", rows, headings, cut="where")
    for name in found.too_large:
        click.echo(widths.paragraph(f"{name} is too large to be compared here", 2))
    count = len(found.results)
    click.echo(
        f"All {count} results are the same."
        if found.is_same
        else f"{len(differing)} of {count} results differ."
    )


def _print_jobs(found: Comparison) -> None:
    sides = (found.left, found.right)
    rows = [
        ["state", *(each.state for each in sides)],
        ["mode", *(each.mode for each in sides)],
        ["user", *(each.user for each in sides)],
        ["took", *(_seconds(each.took_s) for each in sides)],
        ["datastore, MiB", *("-" if each.size_mb is None else f"{each.size_mb:.2f}" for each in sides)],
    ]
    render.print_table(rows, ["", *(f"job {each.job_id}" for each in sides)])


def _print_differing(found: Sequence[ParameterDifference], kind: str, else_words: str) -> None:
    for each in found:
        left, right = (_short(value) for value in (each.left, each.right))
        click.echo(widths.paragraph(f"{kind}{each.name}: {left} and {right}", 2))
    if not found:
        click.echo(else_words)


def _seconds(value: float | None) -> str:
    return "-" if value is None else render.short_time(value)


def _short(value: str | None) -> str:
    if value is None:
        return "(not there)"
    return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"
