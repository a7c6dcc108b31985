"""Shows a run while it goes on: a bar for the stage at hand on a terminal, a few lines elsewhere.

Takes the driver's events; writes to stderr, since stdout is for results.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

import click

from quakegrid.cli.views import render, routine_warnings
from quakegrid.cli.views.stages import Stages
from quakegrid.jobs import terminal_text

_LEVELS = logging.getLevelNamesMapping()
# The engine logs them with and without their first line.
_TRACEBACK = re.compile(r'^\s*(Traceback \(most recent|File ".*", line \d+)', re.MULTILINE)
QUESTION = "Ctrl-C: press a to abort it, d to detach (it goes on without you), any other key to go on"
_COLORS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class Display(Protocol):
    """Shows events as they come."""

    def show(self, event: dict[str, Any]) -> None:
        """Show one event, if it is worth it."""

    def ask(self, is_asking: bool) -> None:
        """Show the question what Ctrl-C shall mean, or hide it."""

    def close(self) -> None:
        """Leave the terminal in order."""


def open_display(*, verbose: bool) -> Display:
    """The display that suits stderr."""
    return BarDisplay(verbose=verbose) if sys.stderr.isatty() else LineDisplay(verbose=verbose)


def event_line(event: dict[str, Any], *, verbose: bool) -> str | None:
    """The line that tells of an event; None for events that are not told in words.

    Args:
        event: from the driver.
        verbose: show the log from level INFO, with its tracebacks; otherwise from WARNING, without routine.
    """
    match event:
        case {"event": "job", "job_id": job_id}:
            mode = event.get("calculation_mode")
            about = f"job {job_id}: {event.get('description', '')}" + (f" ({mode})" if mode else "")
            return terminal_text.one_line(about)
        case {"event": "queued"}:
            ahead = ", ".join(str(job_id) for job_id in event.get("ahead_job_ids", ()))
            words = f"waiting for job {ahead}" if ahead else "waiting for its turn"
            reason = terminal_text.one_line(event.get("reason") or "")
            return f"{words}: {reason}" if reason else words
        case {"event": "warming"}:
            return "the engine is being loaded; after an installation this takes a minute or two"
        case {"event": "log", "level": str(level), "message": str(message)}:
            return _log_line(level, message, verbose=verbose or bool(event.get("is_shown")))
        case {"event": "note", "message": str(message)}:
            return terminal_text.one_line(message)
    return None


def _log_line(level: str, message: str, *, verbose: bool) -> str | None:
    if verbose:
        return f"{level} {terminal_text.paragraph(message)}"
    # A failure is told in one line at the end; its traceback is in the job's log.
    if _LEVELS.get(level, logging.INFO) < logging.WARNING or _TRACEBACK.search(message):
        return None
    if routine_warnings.is_routine(level, message):
        return None
    first = message.strip().partition("\n")[0]
    return f"{level} {terminal_text.one_line(first)}" if first else None


def _replayed(event: dict[str, Any], words: str) -> str:
    """How many of the tasks that are done were not computed again; empty if all of them were computed."""
    count = event.get("replayed_count", 0)
    return words.format(count) if count else ""


class LineDisplay:
    """For files and pipes: words, and each quarter of an operation once."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._quarters: dict[tuple[object, str], int] = {}

    def show(self, event: dict[str, Any]) -> None:
        """Print a line, if the event is worth one."""
        line = (
            self._progress(event)
            if event["event"] == "progress"
            else event_line(event, verbose=self._verbose)
        )
        if line:
            click.echo(line, err=True)

    def _progress(self, event: dict[str, Any]) -> str | None:
        done, total = event["done_count"], event["total_count"]
        key = (event.get("job_id"), event["operation"])
        quarter = 4 * done // max(total, 1)
        if quarter <= self._quarters.get(key, 0):
            return None
        self._quarters[key] = quarter
        replayed = _replayed(event, ", {} of them from the journal")
        return f"{event['operation']}: {done} of {total} tasks done{replayed}"

    def ask(self, is_asking: bool) -> None:
        """Print the question; it is asked where stderr is a terminal, so that bars show it instead."""
        if is_asking:
            click.echo(QUESTION, err=True)

    def close(self) -> None:
        """Nothing is open."""


class BarDisplay:
    """For terminals: one bar for the stage at hand below, words above, and a question below all."""

    def __init__(self, *, verbose: bool) -> None:
        from rich import console, progress, text  # noqa: PLC0415 - pipes do not need it

        stages = Stages()

        class Bars(progress.Progress):
            """The bar, with the question below it while it is open."""

            question = text.Text("")

            def get_renderables(self) -> Iterator[Any]:
                yield from super().get_renderables()
                if self.question:
                    yield self.question

        class Times(progress.ProgressColumn):
            """How long all has taken, and how long the stage at hand still takes."""

            max_refresh = 0.5

            def render(self, task: progress.Task) -> text.Text:
                left_s = stages.left_s(time.monotonic())
                left = "" if left_s is None else f", about {render.short_time(left_s)} left"
                return text.Text(f"{render.short_time(task.elapsed or 0.0)}{left}", no_wrap=True)

        self._verbose, self._stages = verbose, stages
        self._console = console.Console(stderr=True, highlight=False, markup=False)
        self._progress = Bars(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=None),
            progress.MofNCompleteColumn(),
            progress.TextColumn("tasks{task.fields[replayed]}", markup=False),
            Times(),
            console=self._console,
            expand=True,
        )
        self._question = text.Text(QUESTION, style="bold")
        self._bar: progress.TaskID | None = None
        self._progress.start()

    def show(self, event: dict[str, Any]) -> None:
        """Move the bar or print a line above it."""
        if event["event"] == "progress":
            self._move(event)
            return
        line = event_line(event, verbose=self._verbose)
        if line:
            self._console.print(line, style=_COLORS.get(line.partition(" ")[0]))

    def _move(self, event: dict[str, Any]) -> None:
        counts = event["done_count"], event["total_count"]
        self._stages.take(event.get("job_id"), event["operation"], counts, time.monotonic())
        stage = self._stages.current
        assert stage is not None, "one was just taken"
        name = f"stage {stage.number}, {terminal_text.one_line(stage.name)}"
        if self._bar is None:
            self._bar = self._progress.add_task(name, total=None, replayed="")
        is_of_stage = stage.name == event["operation"]
        self._progress.update(
            self._bar,
            description=name,
            completed=stage.done_count,
            total=stage.total_count,
            replayed=_replayed(event, " ({} from the journal)") if is_of_stage else "",
        )

    def ask(self, is_asking: bool) -> None:
        """Show the question below the bar, or hide it."""
        self._progress.question = self._question if is_asking else self._question[:0]
        self._progress.refresh()

    def close(self) -> None:
        """Draw the bar a last time and free the terminal."""
        self._progress.stop()
