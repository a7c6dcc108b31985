"""Asks the engine for an answer: in a driver of this machine's agent, or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quakegrid import errors
from quakegrid.cli.views import progress, render
from quakegrid.clients import drivers

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings

OWN_PROCESS = "quakegrid.engine.checks"
# Of a driver that was told to end, such as by Ctrl-C here, which is passed on to it.
_STOPPED = frozenset(
    {errors.EXIT_STOPPED, *(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))}
)


class StoppedError(errors.QuakeGridError):
    """The driver was told to end before it had an answer: its person wants no other one, either."""

    exit_code = errors.EXIT_STOPPED


def ask(settings: Settings, name: str, *args: str) -> dict[str, Any]:
    """The answer of a driver.

    Args:
        settings: of the cluster, whose agent runs on this machine.
        name: of what is asked; `quakegrid.engine.web.views` has them.
        *args: of it.
    Raises:
        StoppedError: the driver was told to end.
        QuakeGridError: the engine has none, with its words; or no agent runs here.
    """
    found: dict[str, Any] = {}
    refusal = ""

    def take(event: dict[str, Any]) -> None:
        nonlocal refusal
        if event["event"] == "answer":
            found.update(event)
        elif event["event"] == "error":
            refusal = str(event["message"])
        elif event["event"] == "warming":
            render.say(progress.event_line(event, verbose=False) or "")

    code = drivers.run_driver(settings, ["ask", name, *args], mode="run", on_event=take)
    if not found:
        raise _error(code, refusal or f"the driver ended with exit code {code}, without an answer")
    return found


def ask_own_process(asked: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """The answer of the engine of this environment, in a process of its own.

    Args:
        asked: as `quakegrid.engine.checks` takes it.
        timeout_s: how long it may take.
    Raises:
        QuakeGridError: it took longer, or ended without an answer.
    """
    # -P: modules in the folder of the caller are none of ours, whatever they are called.
    command = [sys.executable, "-P", "-W", "ignore", "-m", OWN_PROCESS, json.dumps(dict(asked))]
    environ = {**os.environ, "OQ_DISTRIBUTE": "no"}
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise errors.QuakeGridError(
            f"the engine has not read the inputs within {timeout_s:g} s; --timeout gives it more time"
        ) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise errors.QuakeGridError(f"the engine could not check it: {last}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def _error(code: int, words: str) -> errors.QuakeGridError:
    kinds = {
        errors.EXIT_USAGE: errors.UsageError,
        errors.EXIT_UNREACHABLE: errors.PeerUnreachableError,
        **dict.fromkeys(_STOPPED, StoppedError),
    }
    return kinds.get(code, errors.QuakeGridError)(words)
