"""Asks engines for what needs one: each request runs in a driver of its own, forked by this machine's agent.

So this process never imports the engine, and a request that takes too long is ended by itself: the agent ends
a driver when we close its connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.clients import drivers
from quakegrid.settings.config import Settings, agent_socket
from services.web.uploads.inputs import LEFT_BYTES

# Requests that run at once, and those that may wait for them.
RUNNING_COUNT = 4
WAITING_COUNT = 64
# Requests whose files have not been taken yet; those that wait have a folder, too.
MOST_FOLDERS = 100
# Exports of large calculations take minutes.
TIMEOUT_S = 600.0
MOST_LINE_BYTES = 4 << 20
FOLDER_PREFIX = "quakegrid-web-"


class EngineViews:
    """Runs requests that need the engine, a few at a time.

    Args:
        settings: of the cluster, whose agent must run on this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(RUNNING_COUNT)
        self._waiting_count = 0
        self._formats: dict[str, list[str]] | None = None
        self._texts: dict[str, bytes] = {}
        self._folders: list[Path] = []

    async def formats(self) -> dict[str, list[str]]:
        """The formats of each kind of output; asked for once, as it depends on the engine's version only."""
        if self._formats is None:
            self._formats = (await self.run("formats"))["formats"]
        return self._formats

    async def text(self, name: str) -> bytes:
        """What an engine knows by itself, as JSON; asked for once, as it depends on its version only."""
        if name not in self._texts:
            folder = self.new_folder()
            try:
                (path,) = (await self.run(name, str(folder)))["paths"]
                self._texts[name] = await asyncio.to_thread(Path(path).read_bytes)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return self._texts[name]

    def new_folder(self) -> Path:
        """A folder for files of one request, private to this user; whoever asks removes it.

        Raises:
            PeerUnreachableError: too many are still there, as readers are slow, or the disk is full.
        """
        self._folders = [folder for folder in self._folders if folder.exists()]
        place = self._settings.custom_tmp or tempfile.gettempdir()
        if len(self._folders) >= MOST_FOLDERS or shutil.disk_usage(place).free < LEFT_BYTES:
            raise errors.PeerUnreachableError(
                f"{len(self._folders)} results are on their way, and there is no room for another; "
                "try again later"
            )
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=place))
        self._folders.append(folder)
        return folder

    async def run(self, name: str, *args: str) -> dict[str, Any]:
        """Run one request; gives what its driver told.

        Raises:
            PeerUnreachableError: there is no agent, too many wait, or it took too long.
            EngineMissingError: the agent has no engine.
            QuakeGridError: the engine could not do it, in its words.
        """
        if self._waiting_count >= WAITING_COUNT:
            raise errors.PeerUnreachableError(
                f"{WAITING_COUNT} requests wait for the engine; try again later"
            )
        self._waiting_count += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting_count -= 1
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._run(name, args)
        except TimeoutError:
            raise errors.PeerUnreachableError(
                f"the engine did not answer within {TIMEOUT_S:.0f} s; `quakegrid jobs export` has no limit"
            ) from None
        finally:
            self._places.release()

    async def _run(self, name: str, args: tuple[str, ...]) -> dict[str, Any]:
        environ = {**os.environ, "OQ_DISTRIBUTE": "no"}
        request = {"argv": ["view", name, *args], "cwd": "/", "environ": environ, "mode": "run"}
        found: dict[str, Any] | None = None
        async with self._connection() as (reader, writer):
            writer.write(json.dumps(request).encode() + b"\n")
            async for line in reader:
                event = drivers.read_event(line)
                match event.get("event"):
                    case "view":
                        found = event
                    case "error":
                        raise errors.QuakeGridError(event["message"])
                    case "refused":
                        raise errors.EngineMissingError(event["message"])
                    case "exit":
                        if found is not None:
                            return _checked(found)
                        raise errors.QuakeGridError(
                            f"the engine ended with code {event['code']} and no answer"
                        )
        raise errors.PeerUnreachableError("the agent went away; try again")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await connect(self._settings)
        try:
            yield reader, writer
        finally:
            writer.close()


async def connect(settings: Settings) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the agent of this machine.

    Raises:
        PeerUnreachableError: there is none.
    """
    path = agent_socket(settings.state_dir)
    try:
        return await asyncio.open_unix_connection(path, limit=MOST_LINE_BYTES)
    except OSError as exc:
        raise errors.PeerUnreachableError(
            f"no agent answers at {path} ({exc.strerror}); results and calculations need one on this machine"
        ) from exc


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    """What a driver told, unless it refused.

    Raises:
        NotFoundError: there is no such thing.
        UsageError: it cannot be made of what was given.
    """
    if "refusal" not in found:
        return found
    kind = errors.NotFoundError if found["is_missing"] else errors.UsageError
    raise kind(found["refusal"])


def remove_leftovers(folder: str) -> None:
    """Remove folders of earlier services that were killed.

    Args:
        folder: where they are; empty for the system's.
    """
    for path in Path(folder or tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        pid = path.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        is_ours = path.is_dir() and not path.is_symlink() and path.lstat().st_uid == os.geteuid()
        if is_ours and pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)
