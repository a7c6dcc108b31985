"""Command `jobs compare`: what differs between two calculations: parameters, inputs, times, results.

`quakegrid.comparison` compares; this module gets what is compared, and prints what differs.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.checks import answers
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
T = TypeVar("T")


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
        parameters: that differ; None if they could not be compared.
        inputs: files whose contents differ, or that nobody can compare any more; None as above.
        results: all, with what differs; None as above.
        too_large: names of files that were not compared.
        not_compared: why, by the name of what is None.
    """

    left: ComparedJob
    right: ComparedJob
    is_same: bool | None
    parameters: list[ParameterDifference] | None
    inputs: list[ParameterDifference] | None
    results: list[TableDifference] | None
    too_large: list[str] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)


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

    Says what could not be compared, and why, such as by a web service that is older than this command.

    Ends with exit code 0 if the results are the same, and with 1 if they are not, or could not be compared.
    With --no-results it ends with 0, and says nothing of them.
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
        _print_names(found)
    else:
        _print(found, has_results=not no_results)
    if not (found.is_same or no_results):
        click.get_current_context().exit(errors.EXIT_FAILED)


def _compare(source: ResultSource, jobs: Sequence[Job], tolerance: Tolerance | None) -> Comparison:
    """Compare all that there is; the results only within a tolerance.

    Raises:
        QuakeGridError: nothing could be compared.
    """
    left, right = jobs
    failures: dict[str, errors.QuakeGridError] = {}
    changed = _tried(
        "parameters",
        lambda: parameters.differing(source.parameters(left.id), source.parameters(right.id)),
        failures,
    )
    inputs = _tried(
        "inputs",
        lambda: parameters.differing_inputs(source.inputs(left.id), source.inputs(right.id)),
        failures,
    )
    results: list[TableDifference] | None = []
    too_large: list[str] = []
    if tolerance is not None:
        found = _tried("results", lambda: _results(source, jobs, tolerance), failures)
        results, too_large = found or (None, [])
    if changed is None and inputs is None and not results:
        raise _why_nothing(failures, too_large)
    is_same = None if tolerance is None or results is None else tables.is_same(results) and not too_large
    words = {name: str(each) for name, each in failures.items()}
    return Comparison(_compared(left), _compared(right), is_same, changed, inputs, results, too_large, words)


def _why_nothing(
    failures: Mapping[str, errors.QuakeGridError], too_large: Sequence[str]
) -> errors.QuakeGridError:
    """Why no part could be compared: one reason if all parts have the same, or that of each."""
    reasons = {str(each) for each in failures.values()}
    if len(reasons) == 1 and not too_large:
        return failures["parameters"]
    words = [f"the {name}: {each}" for name, each in failures.items()]
    if too_large:
        words.append(f"the results: too large to be compared here ({', '.join(too_large)})")
    return errors.QuakeGridError(f"nothing could be compared; {'; '.join(words)}")


def _tried(part: str, compare: Callable[[], T], failures: dict[str, errors.QuakeGridError]) -> T | None:
    """What a comparison found; None if this part cannot be compared, which is noted.

    Raises:
        QuakeGridError: no other part can be compared, either, or the person has stopped this one.
    """
    try:
        return compare()
    except (errors.PeerUnreachableError, errors.CredentialError, answers.StoppedError):
        raise
    except errors.QuakeGridError as exc:
        failures[part] = exc
        return None


def _results(
    source: ResultSource, jobs: Sequence[Job], tolerance: Tolerance
) -> tuple[list[TableDifference], list[str]]:
    """All results that were compared, and the names of those that were too large.

    Raises:
        QuakeGridError: there are none, or they cannot be exported.
    """
    too_large: set[str] = set()
    found = [_tables(source, job, too_large) for job in jobs]
    ours, theirs = ({name: each[name] for name in each if name not in too_large} for each in found)
    results = tables.compare_all(ours, theirs, tolerance)
    if not results and not too_large:
        left, right = jobs
        raise errors.NotFoundError(
            f"neither job {left.id} nor job {right.id} has a result that can be exported as CSV"
        )
    return results, sorted(too_large)


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


def _print_names(found: Comparison) -> None:
    for each in found.results or ():
        if each.likeness is not Likeness.SAME:
            click.echo(each.name)
    for line in _lines_on_rest(found):
        render.say(line)


def _print(found: Comparison, *, has_results: bool) -> None:
    _print_jobs(found)
    click.echo()
    _print_differing(found.parameters, "", "The parameters are the same.")
    _print_differing(found.inputs, "input ", "The inputs are the same.")
    if has_results and found.results is not None:
        click.echo()
        _print_results(found.results, found)
    if found.not_compared:
        click.echo()
    for line in _lines_on_rest(found):
        click.echo(line)


def _lines_on_rest(found: Comparison) -> list[str]:
    """What could not be compared, and why."""
    return [
        widths.paragraph(f"The {name} could not be compared: {why}", 2)
        for name, why in found.not_compared.items()
    ]


def _print_results(results: Sequence[TableDifference], found: Comparison) -> None:
    differing = [each for each in results if each.likeness is not Likeness.SAME]
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
        texts = {field: [heading, *(row[field] for row in rows)] for field, heading in headings.items()}
        shown = widths.kept(texts, ("where",))
        render.print_listing("table", rows, {field: headings[field] for field in shown})
        for each in differing if "where" not in shown else ():
            if each.where:
                click.echo(widths.paragraph(f"{each.name}: {each.where}", 2))
    for name in found.too_large:
        click.echo(widths.paragraph(f"{name} is too large to be compared here", 2))
    count = len(results)
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


def _print_differing(found: Sequence[ParameterDifference] | None, kind: str, else_words: str) -> None:
    for each in found or ():
        left, right = (_short(value) for value in (each.left, each.right))
        click.echo(widths.paragraph(f"{kind}{each.name}: {left} and {right}", 2))
    if found == []:
        click.echo(else_words)


def _seconds(value: float | None) -> str:
    return "-" if value is None else render.short_time(value)


def _short(value: str | None) -> str:
    if value is None:
        return "(not there)"
    return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"
