"""Starts calculations that people send: each in a driver of its own, forked by this machine's agent.

The driver runs as the person, and takes what they have sent into a folder of theirs. It leaves its connection
when it is accepted, so a calculation does not need this service any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.clients import drivers
from quakegrid.jobs.row_ids import LARGEST_ID
from quakegrid.services.web import engine_views
from quakegrid.services.web.callers import Caller
from quakegrid.services.web.persons import whose
from quakegrid.settings.config import Settings

# QGIS waits 20 s.
TIMEOUT_S = 18.0
# A driver copies at most what one upload may have.
TAKING_TIMEOUT_S = 300.0


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
        name: of the folder that the person gets for these inputs, if the driver runs as another account.
        hazard_job_id: the calculation whose results it starts from.
        notify_to: address that is told of its end.
        choices: what else the person has chosen.
    """

    job_ini: Path
    root: Path | None
    name: str = ""
    hazard_job_id: int | None = None
    notify_to: str | None = None
    choices: RunChoices = field(default_factory=RunChoices)

    def as_json(self) -> str:
        """As the driver reads it."""
        return json.dumps(
            {
                "job_ini": str(self.job_ini),
                "root": None if self.root is None else str(self.root),
                "name": self.name,
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
        is_taken: whether the person has the inputs in a folder of theirs.
    """

    job_id: int
    traceback: list[str]
    is_taken: bool = False


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
            PeerUnreachableError: there is no agent, or no driver answered in time; nothing runs then.
            EngineMissingError: the agent has no engine.
            QuakeGridError: the driver could not make the calculation.
        """
        folder_fds = [engine_views.open_folder(what.root)] if what.root else []
        try:
            reader, writer = await engine_views.connect(self._settings, _request(what, caller), folder_fds)
        finally:
            for number in folder_fds:
                os.close(number)
        news = _News()
        try:
            async with asyncio.timeout(TIMEOUT_S) as time:
                started = await _accepted(reader, news, time)
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


@dataclass(slots=True)
class _News:
    """What the agent says before the driver speaks."""

    is_warming: bool = False
    is_detachable: bool = False
    is_taken: bool = False

    def take(self, kind: str) -> None:
        """Take note of an event."""
        self.is_warming |= kind == "warming"
        self.is_detachable |= kind == "detachable"
        self.is_taken |= kind == "taken"


async def _end(writer: asyncio.StreamWriter) -> None:
    """End a driver that has not begun, and let go of it."""
    with contextlib.suppress(ConnectionError):
        writer.write(json.dumps({"signal": signal.SIGTERM}).encode() + b"\n")
        await writer.drain()
    writer.close()


def _request(what: ModelRun, caller: Caller) -> dict[str, Any]:
    as_whom = whose.of(caller.name, caller.name)
    folder = what.job_ini.parent if what.root is None else what.root
    return {
        "argv": ["start", what.as_json()],
        # A person's driver cannot enter the folder of this service; it goes to its own when it has taken it.
        "cwd": "/" if as_whom.person else str(folder),
        "environ": as_whom.environ(os.environ),
        "mode": "run",
        "is_detachable": True,
        "for_person": as_whom.person,
        "notify": list(what.choices.notify),
    }


async def _accepted(reader: asyncio.StreamReader, news: _News, time: asyncio.Timeout) -> Started:
    """Wait for the driver's verdict.

    Args:
        reader: of its events.
        news: gets what is said before.
        time: is given anew while the driver copies what was sent, and after that.
    """
    loop = asyncio.get_running_loop()
    async for line in reader:
        event = drivers.read_event(line)
        kind = event.get("event", "")
        news.take(kind)
        if kind in ("taking", "taken"):
            time.reschedule(loop.time() + (TAKING_TIMEOUT_S if kind == "taking" else TIMEOUT_S))
        if kind in ("accepted", "not_accepted"):
            return _started(event, is_taken=news.is_taken)
        if kind == "refused":
            raise engine_views.refusal_of(event)
        if kind in ("error", "exit"):
            reason = event.get("message", f"the driver ended with code {event.get('code')} before it began")
            raise errors.QuakeGridError(reason)
    raise errors.PeerUnreachableError("the agent went away; try again")


def _started(event: Mapping[str, Any], *, is_taken: bool) -> Started:
    """What a driver says of its calculation. A person may have changed it: it is the person's process.

    Raises:
        QuakeGridError: it says what no driver says.
    """
    job_id, lines = event.get("job_id"), event.get("traceback", [])
    if type(job_id) is not int or not 0 < job_id <= LARGEST_ID or not isinstance(lines, list):
        raise errors.QuakeGridError("the driver of this calculation does not say which one it is")
    return Started(job_id, list(map(str, lines)), is_taken)


async def _follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(1 << 16):
            pass
    finally:
        writer.close()
