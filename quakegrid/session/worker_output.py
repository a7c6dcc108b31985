"""The output of workers and the reports of their ends, as lines for a job's log or a program's output.

Does not depend on connections.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes import worker_end_messages
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.session")


@dataclass(frozen=True, slots=True)
class WorkerWords:
    """A line that a worker printed, or that tells of its end; `is_warning`: from stderr, or such an end."""

    node: str
    worker_id: str
    text: str
    is_warning: bool


OnWords = Callable[[WorkerWords], None]


class WordsRelay:
    """Hands the lines of workers to a function of the driver; for any thread."""

    def __init__(self) -> None:
        self.on_words: OnWords = lambda _words: None

    def pass_on(self, words: WorkerWords) -> None:
        """Show a line of a worker. If that fails, as on a closed terminal, the calculation goes on."""
        try:
            self.on_words(words)
        except Exception:
            log.exception("words_lost")

    def pass_output(self, output: orders_pb2.WorkerOutput) -> None:
        """Show the lines of a worker."""
        for words in from_output(output):
            self.pass_on(words)


def from_output(output: orders_pb2.WorkerOutput) -> Iterator[WorkerWords]:
    """The lines of a worker."""
    for line in output.lines:
        yield WorkerWords(output.node, output.worker_id, line.text, line.is_error)


def from_death(died: lane_pb2.WorkerDied) -> WorkerWords:
    """The lines on a worker that has died."""
    return WorkerWords(died.end.node, died.end.worker_id, describe_death(died), is_warning=True)


def describe_death(died: lane_pb2.WorkerDied) -> str:
    """How a worker ended, what it was doing, and what it last said."""
    end = worker_end_messages.decode(died.end)
    if end.reason.startswith(("killed by", "stopped ")):
        how = f"was {end.words}"
    elif end.reason.startswith("exit code"):
        how = f"ended with {end.words}"
    else:
        how = f"is lost: {end.words}"
    doing = "while it held no task"
    if died.HasField("lease"):
        operation = f", {died.operation}" if died.operation else ""
        doing = f"while it ran task {died.lease.task_id} (attempt {died.lease.attempt}{operation})"
    if died.waiting_count:
        doing += f"; {died.waiting_count} more waited there"
    last = "; its last lines:\n" + "\n".join(end.last_output) if end.last_output else ""
    return f"worker {end.worker_id} on node {end.node} {how}, {doing}{last}"


def echo(words: WorkerWords) -> None:
    """Print a line where this program prints: stdout or stderr; for any thread."""
    stream = sys.stderr if words.is_warning else sys.stdout
    with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
        stream.write(f"(worker={words.worker_id}, node={words.node}) {words.text}\n")
