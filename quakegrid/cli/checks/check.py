"""Command `check`: everything that can be known of a calculation before it runs.

The engine reads the inputs, in a driver or in a process of its own; this module says what it found.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quakegrid import errors
from quakegrid.cli import options, run
from quakegrid.cli.checks import answers, estimates
from quakegrid.cli.checks.estimates import Estimates
from quakegrid.cli.views import render, routine_warnings, transfer, widths

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings

FACTS = {
    "sites": "sites",
    "assets": "assets",
    "sources": "sources",
    "ruptures": "ruptures",
    "ground_motion_models": "ground motion models",
    "realizations": "realizations",
    "intensity_measures": "intensity measures",
    "levels": "levels in all",
    "risk_functions": "risk functions",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of one job file.

    Args:
        file: the job file.
        is_valid: whether a calculation could begin.
        refusal: why not.
        hints: names that have no effect, with those that are nearly the same.
        warnings: of the engine, without routine.
        description: of the calculation.
        mode: of the calculation.
        facts: counts.
        estimates: what it will need.
        read_s: how long the engine read.
    """

    file: str
    is_valid: bool
    refusal: str = ""
    hints: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    description: str = ""
    mode: str = ""
    facts: dict[str, int] = field(default_factory=dict)
    estimates: Estimates = field(default_factory=Estimates)
    read_s: float = 0.0


@click.command()
@click.argument("job_inis", metavar="JOB.ini...", nargs=-1, required=True)
@click.option("--hc", metavar="ID", help="The hazard calculation that it starts from.")
@click.option(
    "-p", "--param", "params", metavar="KEY=VALUE", multiple=True, help="Override a value of the file."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the engine may read, where no cluster runs.",
)
@options.output_option
def check(
    job_inis: tuple[str, ...], hc: str | None, params: tuple[str, ...], timeout_s: float, output: str
) -> None:
    """Check calculations before they run.

    The engine reads all inputs, and computes nothing. Says what is wrong, which names in a job file have no
    effect, how large the calculation is, and what it will need. Works without a cluster, too, where the
    engine is installed; with a credential, the master checks what it is sent.

    Example: `quakegrid check job.ini -p truncation_level=3`

    Ends with exit code 0 if all are valid, and with 2 if one is not.
    """
    plan = run.RunPlan(job_inis, hc=hc, params=params)
    run.engine_argv(plan)  # refuses what is no file or no parameter
    found = [_check(plan, job_ini, timeout_s) for job_ini in job_inis]
    if output == "json":
        render.print_json(found)
    else:
        for each in found:
            if output == "quiet":
                click.echo(each.file)
            else:
                _print(each)
    if not all(each.is_valid for each in found):
        click.get_current_context().exit(errors.EXIT_USAGE)


def _check(plan: run.RunPlan, job_ini: str, timeout_s: float) -> Checked:
    """Check one job file where that can be done."""
    settings = _cluster_here()
    if settings is not None and settings.credential is not None:
        from quakegrid.cli.desk import checks  # noqa: PLC0415 - only with a credential

        if plan.params or plan.hc:
            raise errors.UsageError("-p and --hc can be checked on the master only")
        refusal = checks.refusal(settings, Path(job_ini))
        return Checked(job_ini, is_valid=not refusal, refusal=refusal)
    parent = None if settings is None else run.earlier_job(settings, plan.hc)
    asked = {
        "job_ini": str(Path(job_ini).expanduser().absolute()),
        "params": dict(param.split("=", 1) for param in plan.params),
        "parent_id": None if parent is None else _number(parent),
    }
    if settings is not None:
        return _judged(job_ini, answers.ask(settings, "check", json.dumps(asked)), _core_count(settings))
    if plan.hc:
        raise errors.PeerUnreachableError(
            "--hc needs the cluster that has the calculation, and none runs here"
        )
    from quakegrid.nodes import engine_version  # noqa: PLC0415 - not with a cluster

    engine_version.check_engine(tries_others=True)
    return _judged(job_ini, answers.ask_own_process(asked, timeout_s), os.cpu_count() or 1)


def _number(text: str) -> int:
    number = options.JOB_ID.convert(text, None, None)
    assert isinstance(number, int)
    return number


def _cluster_here() -> Settings | None:
    """The settings of the cluster that can check something; None if none runs."""
    try:
        found = options.machine_settings()
    except errors.PeerUnreachableError:
        return None
    from quakegrid.clients import agent_sockets  # noqa: PLC0415 - not for --help

    return found if found.credential is not None or agent_sockets.is_there(found.state_dir) else None


def _core_count(settings: Settings) -> int:
    """Cores of the cluster; of this machine, if the cluster cannot be asked."""
    from quakegrid.clients.broker import BrokerClient  # noqa: PLC0415 - not for --help

    if settings.proof:
        try:
            with closing(BrokerClient(settings)) as broker:
                return sum(node.core_count for node in broker.status().nodes if node.is_up) or 1
        except errors.QuakeGridError:
            pass
    return os.cpu_count() or 1


def _judged(job_ini: str, answer: dict[str, Any], core_count: int) -> Checked:
    """What the engine's answer means."""
    facts = {str(name): int(count) for name, count in answer["facts"].items()}
    hints, told = list(answer["hints"]), [hint.partition(" ")[0] for hint in answer["hints"]]
    warnings = [
        line
        for line in map(str, answer["warnings"])
        if not routine_warnings.is_routine("WARNING", line) and not any(f"'{name}'" in line for name in told)
    ]
    needs = estimates.estimate(str(answer["mode"]), facts, core_count)
    if not answer["refusal"]:
        warnings += estimates.doubts(needs, facts, _free_bytes())
    return Checked(
        job_ini,
        is_valid=not answer["refusal"],
        refusal=str(answer["refusal"]),
        hints=hints,
        warnings=warnings,
        description=str(answer["description"]),
        mode=str(answer["mode"]),
        facts=facts,
        estimates=needs,
        read_s=float(answer["read_s"]),
    )


def _free_bytes() -> int:
    import psutil  # noqa: PLC0415 - not for --help

    return int(psutil.virtual_memory().available)


def _print(found: Checked) -> None:
    about = ": ".join(part for part in (found.file, found.description) if part)
    click.secho(widths.paragraph(about + (f" ({found.mode})" if found.mode else ""), 2), bold=True)
    rows = [(label, f"{found.facts[name]:,}") for name, label in FACTS.items() if name in found.facts]
    needs = found.estimates
    if found.is_valid and needs.task_count:
        rows.append(("tasks of its longest stage", f"about {needs.task_count:,}"))
    if found.is_valid and needs.driver_bytes:
        rows.append(("memory for rates (driver)", f"about {transfer.bytes_text(needs.driver_bytes)}"))
        rows.append(("mean hazard curves", f"about {transfer.bytes_text(needs.curve_bytes)}"))
    for label, text in rows:
        click.echo(f"  {label:<28}{text}")
    for line in (*found.hints, *found.warnings):
        click.echo(widths.hanging("  warning  ", line))
    if found.is_valid:
        took = f", in {found.read_s:.1f} s" if found.read_s else ""
        click.echo(f"  valid: the engine has read all inputs{took}")
    else:
        click.echo(widths.hanging("  not valid: ", found.refusal))
