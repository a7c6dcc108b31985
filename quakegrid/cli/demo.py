"""Command `demo`: from nothing to a figure of hazard curves, with one of the engine's own test cases.

Brings the cluster up, waits for the engine, runs the case, shows the result. The engine is not
imported here: its files are found in the environment and its curves read from the exported CSV.
"""

from __future__ import annotations

import importlib.util
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sys import stderr

import click

from quakegrid import errors
from quakegrid.cli import cluster, options
from quakegrid.cli.following import runs
from quakegrid.cli.run import RunPlan, engine_argv, print_report
from quakegrid.cli.views import hazard_curves, render
from quakegrid.clients import agent as agents
from quakegrid.clients.drivers import DriverRequest
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.settings.config import Settings

CASE = Path("qa_tests_data", "classical", "case_01")
DEFAULT_FOLDER = "quakegrid-demo"
POLL_S = 0.5
SHOWN_SITES = 4


@click.command()
@options.state_dir_option
@click.option(
    "--cores", type=click.IntRange(min=1), metavar="N", help="Use N cores if the cluster is not up yet."
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where to put the example and its results; a number is added if it exists.",
)
def demo(cores: int | None, folder: Path) -> None:
    """Run a first real calculation, from nothing to a figure.

    Starts this machine's cluster if it is not up (one of several machines must be), runs a small classical
    hazard calculation of the engine's own tests on it, exports the hazard curves and draws them. The cluster
    stays up.
    """
    settings = options.settings()
    if settings.is_embedded:
        settings, started = cluster.bring_up(options.state_dir(), cores)
        render.say(f"cluster: {'up' if not started else 'started'} (state in {settings.state_dir})")
    else:
        render.say(f"cluster: that of {settings.broker_address}")
    wait_for_engine(settings)
    case = copy_case(folder)
    render.say(f"calculation: {case}/job.ini, classical hazard at four sites")
    plan = RunPlan([str(case / "job.ini")], exports="csv", export_dir=case / "out")
    report = runs.execute(settings, DriverRequest(engine_argv(plan)))
    if report.exit_code:
        print_report(report, "table")
        click.get_current_context().exit(report.exit_code)
    for job in report.jobs.values():
        click.echo(f"job {job.job_id} complete in {report.duration_s:.1f} s; datastore {job.datastore}")
    _show_curves(case)


def wait_for_engine(settings: Settings) -> None:
    """Wait until the agent's template has the engine loaded.

    Raises:
        QuakeGridError: the engine cannot be loaded.
        PeerUnreachableError: the agent is gone.
    """
    pause = threading.Event()
    with closing(agents.local_client(settings)) as agent:
        status = agent.status()
        if status.template_state.kind is TemplateKind.LOADING:
            with _spinning("loading the engine (after an installation it compiles for a minute or two) ..."):
                while status.template_state.kind is TemplateKind.LOADING:
                    pause.wait(POLL_S)
                    status = agent.status()
    if not status.engine_version:
        reason = status.template_state.reason.removeprefix("without the engine: ")
        log = settings.log_dir / "agent.log"
        raise errors.QuakeGridError(f"the engine cannot be loaded: {reason} (log: {log})")


@contextmanager
def _spinning(text: str) -> Iterator[None]:
    if not stderr.isatty():
        render.say(text)
        yield
        return
    from rich import console  # noqa: PLC0415 - only terminals spin

    with console.Console(stderr=True).status(text):
        yield


def copy_case(folder: Path) -> Path:
    """Copy the example out of the installed engine into a fresh folder; its path.

    Raises:
        EngineMissingError: the installed engine does not have it.
    """
    spec = importlib.util.find_spec("openquake")
    places = [Path(place, CASE) for place in (spec.submodule_search_locations or ())] if spec else []
    source = next((place for place in places if (place / "job.ini").is_file()), None)
    if source is None:
        raise errors.EngineMissingError(
            f"the installed openquake.engine has no {CASE}; install it from its wheel (quakegrid[engine])"
        )
    case = _fresh(folder)
    for path in sorted(source.glob("*.xml")):
        shutil.copyfile(path, case / path.name)
    # The original exports to /tmp, and has a line with a misspelled name, of which the engine warns.
    lines = (source / "job.ini").read_text(encoding="utf-8").splitlines(keepends=True)
    job_ini = "".join(line for line in lines if not line.startswith("minimun_magnitude"))
    job_ini = job_ini.replace("export_dir = /tmp", "export_dir = out")
    (case / "job.ini").write_text(job_ini, encoding="utf-8")
    (case / "out").mkdir()
    return case


def _fresh(folder: Path) -> Path:
    if folder.name in ("", ".."):  # it is there and has no name to which a number could be added
        folder /= DEFAULT_FOLDER
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return candidate


def _show_curves(case: Path) -> None:
    paths = sorted((case / "out").glob("hazard_curve-mean-*.csv"))
    if not paths:
        raise errors.QuakeGridError(f"the calculation exported no hazard curves to {case / 'out'}")
    curves = [hazard_curves.read_curves(path) for path in paths]
    for path in sorted((case / "out").glob("*.csv")):
        click.echo(f"exported: {path}")
    first = curves[0]
    click.echo(f"\nmean hazard curves, {first.imt}: probability of exceedance in {first.years:g} year(s)")
    headings = [
        "lon",
        "lat",
        *(f"{level:g} {hazard_curves.unit(first.imt)}".strip() for level in first.levels),
    ]
    rows = [[*site, *values] for site, values in zip(first.sites, first.poes, strict=True)]
    texts = [[f"{value:.4g}" for value in row] for row in rows[:SHOWN_SITES]]
    render.print_table(texts, headings)
    figure = case / "hazard_curves.png"
    is_drawn = hazard_curves.draw(curves, figure)
    click.echo(f"figure: {figure}" if is_drawn else "no figure: matplotlib is not installed")
    _hint(figure if is_drawn else None)


def _hint(figure: Path | None) -> None:
    hints = [
        (f"{options.program()} run your/job.ini", "your own calculation; it starts at once now"),
        (f"{options.program()} jobs list", "all calculations so far"),
    ]
    if options.settings().is_embedded:
        hints.append((f"{options.program()} down", "stop the cluster, which stays up until then"))
    if figure:
        hints.insert(0, (f"open {figure}", "the hazard curves"))
    width = max(len(command) for command, _ in hints)
    render.say("\nWhat next:")
    for command, meaning in hints:
        render.say(f"  {command:<{width}}  {meaning}")
