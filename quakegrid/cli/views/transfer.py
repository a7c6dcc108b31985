"""Shows how far files are that are sent or fetched: a bar on a terminal, a line elsewhere; on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from quakegrid.cli.views import render

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# A transfer that is smaller than this needs no bar.
BAR_BYTES = 4 << 20


class Transfer:
    """One transfer. A context manager, which leaves the terminal in order.

    Args:
        verb: what is done, such as "sending".
        rest: said if not all files are sent; empty for nothing.
    """

    def __init__(self, verb: str, rest: str = "") -> None:
        self._verb, self._rest = verb, rest
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def begin(self, file_count: int, size_bytes: int) -> None:
        """Say what is transferred, and open the bar."""
        self.__exit__()
        if not file_count:
            render.say(f"nothing to send{self._rest}")
            return
        render.say(f"{self._verb} {files_text(file_count, size_bytes)}{self._rest}")
        if size_bytes < BAR_BYTES or not sys.stderr.isatty():
            return
        from rich import console, progress  # noqa: PLC0415 - large transfers on terminals only

        bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=console.Console(stderr=True, highlight=False, markup=False),
        )
        bar.start()
        self._bar = bar, bar.add_task(self._verb, total=size_bytes)

    def add(self, size_bytes: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar[0].advance(self._bar[1], size_bytes)


def files_text(count: int, size_bytes: int) -> str:
    """How many files of how many bytes, in words."""
    return f"{count} file{'s' * (count != 1)}, {bytes_text(size_bytes)}"


def bytes_text(size_bytes: int) -> str:
    """A number of bytes, in words."""
    size, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
