"""Command `doctor`: finds causes for calculations to fail or be slow, on all nodes.

Prints the findings; `quakegrid.doctor` finds them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from quakegrid.cli import options
from quakegrid.cli.views import render, widths

if TYPE_CHECKING:
    from quakegrid.doctor.checks.findings import Finding
    from quakegrid.doctor.visits import Progress

COLORS = {"breaks": "red", "slows": "yellow", "note": "cyan", "ok": "green"}

# Of the lines below a finding; and how many nodes it names.
INDENT = 8
SHOWN_NODES = 6
all_option = click.option("--all", "shows_all", is_flag=True, help="Show the checks that were fine, too.")


@click.command()
@options.state_dir_option
@all_option
@options.output_option
def doctor(shows_all: bool, output: str) -> None:
    """Find what would break or slow a calculation, on all nodes.

    Run it on the master node: it looks at this machine, asks the agents of all nodes to look at theirs, and
    compares. Each finding says its effect and its fix. Exit code 1 if anything would make a
    calculation fail, or keep a node out of it. `agentctl doctor` does the same on one node.
    """
    from quakegrid.doctor import visits  # noqa: PLC0415 - `--help` needs no gRPC

    settings = options.settings()
    with shown_progress() as progress:
        findings = visits.examine_cluster(settings, progress)
    finish(findings, output, shows_all=shows_all)


def finish(findings: Sequence[Finding], output: str, *, shows_all: bool) -> None:
    """Print findings, and end with exit code 1 if anything would break a calculation."""
    from quakegrid.doctor.checks.findings import would_break  # noqa: PLC0415 - as above

    print_findings(findings, output, shows_all=shows_all)
    if would_break(findings):
        click.get_current_context().exit(1)


def print_findings(findings: Sequence[Finding], output: str, *, shows_all: bool) -> None:
    """Print findings, the worst first, then how many checks were fine.

    Args:
        findings: in order.
        output: json has all of them; quiet the names of the checks that found something.
        shows_all: print those that are fine, too.
    """
    from quakegrid.doctor.checks.findings import Severity, would_break  # noqa: PLC0415 - as above

    wrong = [finding for finding in findings if finding.severity is not Severity.OK]
    fine_count = len(findings) - len(wrong)
    if output == "json":
        render.print_json(
            {"would_break": would_break(findings), "fine_count": fine_count, "findings": list(findings)}
        )
        return
    shown = findings if shows_all else wrong
    if output == "quiet":
        for check in dict.fromkeys(finding.check for finding in shown):
            click.echo(check)
        return
    for finding, nodes in grouped(shown):
        _print_finding(finding, nodes)
    click.echo(f"{fine_count} checks were fine" if fine_count != 1 else "1 check was fine")


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[str]]]:
    """Findings that say the same of several nodes as one, with the names of these nodes; in order."""
    found: dict[tuple[str, ...], tuple[Finding, list[str]]] = {}
    for each in findings:
        key = (each.check, each.severity, each.what, each.breaks, each.remedy)
        nodes = found.setdefault(key, (each, []))[1]
        if each.node not in nodes:
            nodes.append(each.node)
    return list(found.values())


def _print_finding(finding: Finding, nodes: Sequence[str]) -> None:
    named = ", ".join(nodes[:SHOWN_NODES])
    if len(nodes) > SHOWN_NODES:
        named += f" and {len(nodes) - SHOWN_NODES} more"
    severity = f"{finding.severity:<6}"
    line = widths.paragraph(f"{severity}  {named}  {finding.check}: {finding.what}", INDENT)
    click.echo(click.style(severity, fg=COLORS[finding.severity], bold=True) + line[len(severity) :])
    for label, text in (("effect", finding.breaks), ("fix", finding.remedy)):
        if text:
            head = f"{'':{INDENT}}{label:<6}  "
            click.echo(widths.hanging(head, text))


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Prints on stderr what the doctor waits for, in one line that goes away; nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich import console  # noqa: PLC0415 - terminals only

    with console.Console(stderr=True).status("") as spinner:
        yield spinner.update
