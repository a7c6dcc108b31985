"""Where the log of a service is, and the command that shows it. Pure."""

from __future__ import annotations

from pathlib import Path

SERVICES = ("dbserver", "broker", "agent", "web", "drivers")
# Those that systemd runs; the output of drivers is in a file of the agent.
UNITS = ("dbserver", "broker", "agent", "web")


def in_journal(service: str, line_count: int, *, follow: bool) -> list[str]:
    """The command for a service that systemd runs.

    Args:
        service: one of `UNITS`.
        line_count: last lines to show.
        follow: whether it goes on with new ones.
    """
    command = ["journalctl", "--no-pager", "--output=short-iso", f"--lines={line_count}"]
    return [*command, f"--unit=quakegrid-{service}", *(["--follow"] if follow else [])]


def in_file(path: Path, line_count: int, *, follow: bool) -> list[str]:
    """The command for a log that is a file; it is emptied when it is full, and the last lines go on then.

    Args:
        path: of the file.
        line_count: last lines to show.
        follow: whether it goes on with new ones.
    """
    return ["tail", "-n", str(line_count), *(["-F"] if follow else []), "--", str(path)]
