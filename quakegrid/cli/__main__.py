"""The command `quakegrid`: finds the command's module, runs it, turns errors into a line and an exit code.

Imports click and little else: every command's module is imported when the command is called, and the
list of commands is a table, so that `quakegrid --help` loads none of them.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import NamedTuple

import click

from quakegrid import __version__, errors
from quakegrid.cli import options
from quakegrid.cli.shell.groups import CommandGroup, wants_colour
from quakegrid.transport import grpc_environment


class Entry(NamedTuple):
    """Where a command is, and what the list of commands says of it."""

    module: str
    attribute: str
    short_help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Cluster": {
        "up": Entry("cluster", "up", "Start the cluster of this machine."),
        "down": Entry("cluster", "down", "Stop the cluster of this machine."),
        "status": Entry("status", "status", "Show services, nodes, users, sessions and lanes."),
        "metrics": Entry(
            "status", "metrics", "Print the cluster's metrics in the text format of Prometheus."
        ),
        "workers": Entry(
            "workers.commands", "workers", "Show, start, stop, restart and wait for the cluster's nodes."
        ),
        "events": Entry("workers.events", "events", "Show what happened to the cluster."),
        "logs": Entry("logs.commands", "logs", "Show the own log of a service."),
        "upgrade": Entry(
            "checks.upgrade",
            "upgrade",
            "Say whether what runs is what is installed, here and on all nodes.",
        ),
        "completion": Entry(
            "shell.completion", "completion", "Print what lets your shell complete commands and options."
        ),
        "doctor": Entry("doctor", "doctor", "Find what would break or slow a calculation, on all nodes."),
        "config": Entry("checks.config", "config_commands", "Show and check the settings of openquake.cfg."),
        "db": Entry("db", "db", "Back up, check and query the job database."),
        "authkey": Entry("cluster", "authkey", "Make a key for a cluster of several machines."),
        "key": Entry("people.keys", "key", "Change the authkey while calculations run, and see what counts."),
        "install": Entry("install", "install", "Install services, settings and accounts on this machine."),
        "uninstall": Entry("install", "uninstall", "Remove what `quakegrid install` made on this machine."),
    },
    "People": {
        "login": Entry("people.login", "login", "Use a cluster with the credential that its admin gave you."),
        "logout": Entry("people.login", "logout", "Forget your credential for a cluster."),
        "whoami": Entry("people.login", "whoami", "Say who you are, and in which cluster."),
        "web": Entry("people.web", "web", "Open the web pages, and see the certificate that they show."),
        "user": Entry("people.commands", "user", "Give people credentials or passwords, and revoke them."),
        "token": Entry("people.nodes", "token", "Make and revoke tokens: for new nodes, and for scripts."),
        "node": Entry(
            "people.nodes",
            "node",
            "See which nodes have certificates in place of the authkey, and shut nodes out.",
        ),
        "certificate": Entry(
            "people.certificate",
            "certificate",
            "Write a certificate for programs in other languages, which speak gRPC.",
        ),
        "audit": Entry("people.audit", "audit", "Show who did what to which job, node or person."),
    },
    "Calculations": {
        "demo": Entry("demo", "demo", "Run a first real calculation, from nothing to a figure."),
        "check": Entry("checks.check", "check", "Check calculations before they run."),
        "run": Entry("run", "run", "Run calculations and follow them."),
        "attach": Entry("following.attach", "attach", "Follow a calculation again, until its end."),
        "resume": Entry("resume", "resume", "Let a calculation that failed or was aborted go on."),
        "journals": Entry("resume", "journals", "List and forget your journals of functions."),
        "oq": Entry("oq", "oq", "Run any command of the OpenQuake engine, unchanged."),
        "jobs": Entry(
            "jobs", "jobs", "List, watch, show, compare, share, tag, export and delete calculations."
        ),
        "plot": Entry("results.plot", "plot", "Draw the results of a calculation into files."),
        "report": Entry("report", "report", "Show where the cores' time went during a calculation."),
        "explain": Entry("report", "explain", "Say why a job failed, waits, is slow, or ran a task again."),
        "abort": Entry("abort", "abort", "Abort jobs, wherever they run, and sessions of programs."),
    },
}
ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class CommandTable(CommandGroup):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names of all commands, in the table's order."""
        return list(ENTRIES)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in ENTRIES:
            return None
        entry = ENTRIES[cmd_name]
        command = getattr(import_module(f"quakegrid.cli.{entry.module}"), entry.attribute)
        assert isinstance(command, click.Command)
        options.take_everywhere(command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, by section, without importing anything."""
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, entry.short_help) for name, entry in entries.items()])


@click.command(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `quakegrid demo`. Exit codes: 0 fine, 1 failed, 2 usage or settings, "
    "3 not reachable or not running, 4 stopped by force, 5 not ended in time.",
)
@click.version_option(__version__, prog_name="quakegrid")
@options.state_dir_option
@options.cluster_option
def cli() -> None:
    """Run OpenQuake calculations on one or many machines."""


def main() -> None:
    """Run the command line of this process and exit."""
    grpc_environment.tell(os.environ)
    sys.exit(run_command_line())


def run_command_line() -> int:
    """Run the command line of this process; the exit code."""
    try:
        result = cli.main(prog_name="quakegrid", standalone_mode=False, color=wants_colour())
        sys.stdout.flush()
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt) as exc:
        return _stopped(exc)
    except errors.QuakeGridError as exc:
        return _fail(str(exc), exc.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return errors.EXIT_FAILED
    except OSError as exc:
        return _fail(_os_error_text(exc), errors.EXIT_FAILED)
    return result if isinstance(result, int) else 0


def _fail(message: str, exit_code: int) -> int:
    from quakegrid.cli.views import render  # noqa: PLC0415 - not for commands that end well

    render.say(f"quakegrid: {message}")
    return exit_code


def _stopped(exc: BaseException) -> int:
    if isinstance(exc, KeyboardInterrupt) or isinstance(exc.__cause__, KeyboardInterrupt):
        return _fail("interrupted", errors.EXIT_STOPPED)
    return _fail("nothing done", errors.EXIT_FAILED)


def _os_error_text(exc: OSError) -> str:
    place = f"{exc.filename}: " if exc.filename else ""
    remedy = "; free some space and try again" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{place}{exc.strerror or exc}{remedy}"


if __name__ == "__main__":
    main()
