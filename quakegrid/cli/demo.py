"""Command `demo`: from nothing to a map, curves and losses of a small region, which is part of QuakeGrid.

Brings the cluster up, waits for the engine, runs hazard and then risk, shows the results. The engine is not
imported here: its results are read from the exported CSV.
"""

from __future__ import annotations

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
from quakegrid.cli.views import demo_figure, hazard_curves, render, widths
from quakegrid.clients import agent as agents
from quakegrid.clients.drivers import DriverRequest
from quakegrid.machine import local_services
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.settings.config import Settings

MODEL = Path(__file__).with_name("demo_model")
DEFAULT_FOLDER = "quakegrid-demo"
POLL_S = 0.5


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

    Starts this machine's cluster if it is not up (one of several machines must be). Runs the hazard of a
    small region on it, then the losses of its towns, and draws a map, curves and losses. The cluster stays
    up.
    """
    settings, is_own = _cluster(cores)
    if settings.proof:  # else the agent answers by its socket only, where one cannot ask for its state
        wait_for_engine(settings)
    case = copy_case(folder)
    render.say(f"hazard: {case}/job.ini, a valley between two faults")
    hazard = _run(settings, case / "job.ini", None)
    render.say(f"risk: {case}/job_risk.ini, fifteen towns in it")
    risk = _run(settings, case / "job_risk.ini", hazard)
    _show_results(case, hazard, risk)
    _hint(settings, case, hazard, is_own=is_own)


def _cluster(cores: int | None) -> tuple[Settings, bool]:
    """The cluster to use, and whether it is one of this machine alone, which is brought up.

    Who may not read the key of an installed cluster asks the agent of this machine, as `run` does.
    """
    try:
        settings = options.settings()
    except errors.SettingsError:
        settings = options.machine_settings()
        if settings.credential is not None:
            raise errors.UsageError("the demo needs an agent on this machine, and none runs") from None
        render.say("cluster: that of this machine")
        return settings, False
    if not settings.is_embedded:
        render.say(f"cluster: that of {settings.broker_address}")
        return settings, False
    settings, started = cluster.bring_up(options.state_dir(), cores)
    render.say(f"cluster: {'started' if started else 'up'} (state in {settings.state_dir})")
    return settings, True


def _run(settings: Settings, job_ini: Path, parent: int | None) -> int:
    """Run one calculation and export it beside its file; its id. Ends this command if it fails."""
    plan = RunPlan(
        [str(job_ini)],
        hc=None if parent is None else str(parent),
        exports="csv",
        export_dir=job_ini.parent / "out",
    )
    report = runs.execute(settings, DriverRequest(engine_argv(plan)))
    if report.exit_code:
        print_report(report, "table")
        click.get_current_context().exit(report.exit_code)
    (job,) = report.jobs.values()
    click.echo(
        widths.paragraph(
            f"job {job.job_id} complete in {report.duration_s:.1f} s; datastore {job.datastore}", 2
        )
    )
    return job.job_id


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
    """Copy the model of the demo into a fresh folder; its path."""
    case = _fresh(folder)
    for path in sorted(MODEL.iterdir()):
        shutil.copyfile(path, case / path.name)
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


def _show_results(case: Path, hazard: int, risk: int) -> None:
    """Print the towns with the largest losses, and draw all."""
    out = case / "out"
    curves = hazard_curves.read_curves(out / f"hazard_curve-mean-PGA_{hazard}.csv")
    shaking = demo_figure.read_map(out / f"hazard_map-mean_{hazard}.csv")
    towns = demo_figure.read_towns(out / f"avg_losses-mean_{risk}.csv", shaking)
    for path in sorted(out.glob("*.csv")):
        click.echo(f"exported: {path}")
    click.echo(f"\nPGA with a probability of 10 % in {curves.years:g} years, and mean loss in that time")
    rows = [
        [town.name, f"{town.acceleration_g:.2f}", f"{town.loss / 1e6:.1f}"]
        for town in towns[: demo_figure.SHOWN_TOWNS]
    ]
    render.print_table(rows, ["town", "PGA, g", "loss, million EUR"])
    figure = case / "demo.png"
    is_drawn = demo_figure.draw(shaking, curves, towns, figure)
    click.echo(f"figure: {figure}" if is_drawn else "no figure: matplotlib is not installed")


def _hint(settings: Settings, case: Path, hazard: int, *, is_own: bool) -> None:
    hints = [
        (f"{options.program()} run your/job.ini", "your own calculation; it starts at once now"),
    ]
    if settings.proof:
        hints.append((f"{options.program()} jobs list", "all calculations so far"))
    if is_own:
        hints.append((f"{options.program()} down", "stop the cluster, which stays up until then"))
    if (figure := case / "demo.png").exists():
        hints.insert(0, (f"open {figure}", "map, curves and losses"))
    width = max(len(command) for command, _ in hints)
    render.say("\nWhat next:")
    for command, meaning in hints:
        render.say(f"  {command:<{width}}  {meaning}")
    if web := local_services.running(settings).get("web"):
        render.say(f"Live page: {settings.web_scheme}://{web.address}/calculations/{hazard}")
