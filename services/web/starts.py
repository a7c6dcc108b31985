"""Starts calculations that people send: each in a driver of its own, forked by this machine's agent.

The driver leaves its connection when it is accepted, so a calculation does not need this service any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.clients import drivers
from quakegrid.settings.config import Settings
from services.web import engine_views
from services.web.callers import Caller

# QGIS waits 20 s.
TIMEOUT_S = 18.0
# What tells a driver's processes who somebody is.
NAME_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@dataclass(frozen=True, slots=True)
class RunChoices:
    """What a person may choose beside the files, as options of `quakegrid run`.

    Args:
        params: values that take the place of those of the job file.
        weight: share of the cores beside other calculations of this person.
        cores_per_worker: of each worker.
        notify: addresses that are told the end as the cluster's notifications are.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    cores_per_worker: int = 1
    notify: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRun:
    """What to run.

    Args:
        job_ini: path of the job file.
        root: folder that holds all inputs; None for the person's own files.
        hazard_job_id: the calculation whose results it starts from.
        notify_to: address that is told of its end.
        choices: what else the person has chosen.
    """

    job_ini: Path
    root: Path | None
    hazard_job_id: int | None = None
    notify_to: str | None = None
    choices: RunChoices = field(default_factory=RunChoices)

    def as_json(self) -> str:
        """As the driver reads it."""
        return json.dumps(
            {
                "job_ini": str(self.job_ini),
                "root": None if self.root is None else str(self.root),
                "hazard_job_id": self.hazard_job_id,
                "notify_to": self.notify_to,
                "params": dict(self.choices.params),
                "weight": self.choices.weight,
                "cores_per_worker": self.choices.cores_per_worker,
            }
        )


@dataclass(frozen=True, slots=True)
class Started:
    """How it began.

    Args:
        job_id: of the calculation.
        traceback: why it was refused, line by line; empty if it runs.
    """

    job_id: int
    traceback: list[str]


class Starter:
    """Starts drivers, and waits until each has accepted its calculation.

    Args:
        settings: of the cluster, whose agent must run on this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._following: set[asyncio.Task[None]] = set()

    async def start(self, what: ModelRun, caller: Caller) -> Started:
        """Start a calculation as a person's.

        Raises:
            NotAllowedError: it would run as root, for somebody who is not.
            PeerUnreachableError: there is no agent, or no driver answered in time; nothing runs then.
            EngineMissingError: the agent has no engine.
            QuakeGridError: the driver could not make the calculation.
        """
        check_account(caller, os.geteuid())
        reader, writer = await engine_views.connect(self._settings)
        news = _News()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(json.dumps(_request(what, caller)).encode() + b"\n")
                started = await _accepted(reader, news)
        except TimeoutError:
            await _end(writer)
            hint = "the engine is being loaded; " if news.is_warming else ""
            raise errors.PeerUnreachableError(
                f"{hint}no driver has started in time; try again in a minute"
            ) from None
        except BaseException:
            await _end(writer)
            raise
        if news.is_detachable:
            writer.close()
        else:
            self._hold(reader, writer)
        return started

    def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold a connection until the driver ends: an agent of an older release ends it otherwise."""
        task = asyncio.get_running_loop().create_task(_follow(reader, writer))
        self._following.add(task)
        task.add_done_callback(self._following.discard)


def check_account(caller: Caller, own_uid: int) -> None:
    """Refuse to start what would not run as the caller: the agent knows this service only.

    What root asks for in a person's name, an agent that runs as root runs as root. What another service asks
    for in a person's name runs as the account for all others, which cannot read what the person has sent.

    Args:
        caller: who asks.
        own_uid: number of the account of this service, by which the agent knows it.
    Raises:
        NotAllowedError: the caller is neither this service's account nor root.
    """
    if caller.user_id is None and caller.name == pwd.getpwuid(own_uid).pw_name:
        return  # by a credential of this service's own name
    if caller.user_id not in (own_uid, 0) and own_uid != 0:
        raise errors.NotAllowedError(
            f"you are {caller.name}, and calculations that are sent to the web service of this machine run "
            "as the account of the services so far, not as yours; start yours with `quakegrid run`"
        )
    if own_uid == 0 and caller.user_id != 0:
        raise errors.NotAllowedError(
            f"you are {caller.name}, and the services of this machine run as root, as which your calculation "
            "would run; start it with `quakegrid run`, or let an administrator install the services with "
            "`quakegrid install`"
        )


@dataclass(slots=True)
class _News:
    """What the agent says before the driver speaks."""

    is_warming: bool = False
    is_detachable: bool = False

    def take(self, kind: str) -> None:
        """Take note of an event."""
        self.is_warming |= kind == "warming"
        self.is_detachable |= kind == "detachable"


async def _end(writer: asyncio.StreamWriter) -> None:
    """End a driver that has not begun, and let go of it."""
    with contextlib.suppress(ConnectionError):
        writer.write(json.dumps({"signal": signal.SIGTERM}).encode() + b"\n")
        await writer.drain()
    writer.close()


def _request(what: ModelRun, caller: Caller) -> dict[str, Any]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OQ_DISTRIBUTE")}
    environ |= dict.fromkeys(NAME_VARIABLES, caller.name)
    folder = what.job_ini.parent if what.root is None else what.root
    return {
        "argv": ["start", what.as_json()],
        "cwd": str(folder),
        "environ": environ,
        "mode": "run",
        "is_detachable": True,
        "notify": list(what.choices.notify),
    }


async def _accepted(reader: asyncio.StreamReader, news: _News) -> Started:
    """Wait for the driver's verdict; `news` gets what is said before."""
    async for line in reader:
        event = drivers.read_event(line)
        kind = event.get("event", "")
        news.take(kind)
        if kind in ("accepted", "not_accepted"):
            return Started(event["job_id"], event.get("traceback", []))
        if kind == "refused":
            raise errors.EngineMissingError(event["message"])
        if kind in ("error", "exit"):
            reason = event.get("message", f"the driver ended with code {event.get('code')} before it began")
            raise errors.QuakeGridError(reason)
    raise errors.PeerUnreachableError("the agent went away; try again")


async def _follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(1 << 16):
            pass
    finally:
        writer.close()
