"""Why a calculation ended early, in words, and whether it failed or was aborted.

The engine raises the same exceptions for a Ctrl-C, for an abort and to end with words of its own. The reason
that is noted when a signal comes tells them apart. Does not depend on the engine.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from quakegrid import errors
from quakegrid.engine import optional_parts
from quakegrid.jobs import engine_values, refusal_words

SIGNAL_WORDS = {
    signal.SIGINT: "interrupted (Ctrl-C, or SIGINT)",
    signal.SIGHUP: "its terminal was closed (SIGHUP)",
    signal.SIGTERM: "its process was told to end (SIGTERM), as when the agent or the machine stops",
}
# Characters; an exception may quote a whole file, and the log has all of it.
MAX_REASON_LENGTH = 1000
COMMAND_GONE = "the command that waited for it is gone: its terminal was closed, or it was killed"


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended early, and why, for people."""

    state: Literal["failed", "aborted"]
    reason: str


class StopReason:
    """Why this driver was told to stop; the first reason counts, since others follow from it."""

    def __init__(self) -> None:
        self.text = ""

    def note(self, text: str) -> None:
        """Remember a reason, unless there is one."""
        self.text = self.text or text


def judge(exc: BaseException, stop_reason: str) -> End:
    """The end of a calculation that this exception leaves.

    Args:
        exc: what the engine, or a signal, has raised.
        stop_reason: of `StopReason`; empty if nobody told the driver to stop.
    """
    if stop_reason and isinstance(exc, KeyboardInterrupt | SystemExit):
        return End("aborted", engine_values.well_formed(stop_reason)[:MAX_REASON_LENGTH])
    if isinstance(exc, KeyboardInterrupt) and not str(exc):
        return End("aborted", SIGNAL_WORDS[signal.SIGINT])
    return End("failed", engine_values.well_formed(one_line(exc))[:MAX_REASON_LENGTH])


def one_line(exc: BaseException) -> str:
    """An exception for people, on one line; our own, and words of the engine, need no class name."""
    return _in_words(exc, refusal_words.of_engine)


def job_file_line(exc: BaseException) -> str:
    """Why the engine cannot read a job file, for people, on one line."""
    return _in_words(exc, refusal_words.of_job_file)


def _in_words(exc: BaseException, in_words: Callable[[str, str], str]) -> str:
    if isinstance(exc, SystemExit) and not isinstance(exc.code, str):
        return f"the engine ended it with exit code {exc.code or 0}, without a word; its log may say more"
    if isinstance(exc, MemoryError):
        return f"MemoryError: the memory of this machine, or a limit on it, was not enough {exc}".strip()
    if missing := optional_parts.explain(exc):
        return missing
    kind, text = type(exc).__name__, str(exc).strip()
    if '  File "' in text:  # the engine repeats a task's traceback; the error is its last line
        text = text.rpartition("\n")[2]
    text = " ".join(text.split()).removeprefix(f"{kind}: ")
    is_plain = isinstance(exc, errors.QuakeGridError | SystemExit | KeyboardInterrupt)
    return text if is_plain and text else in_words(kind, text)
