"""Asks engines for what needs one: each request runs in a driver of its own, forked by this machine's agent.

So this process never imports the engine, and a request that takes too long is ended by itself: the agent ends
a driver when we close its connection. The driver runs as the account of whose calculation it looks at.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.clients import drivers
from quakegrid.services.web.persons import handed_files
from quakegrid.services.web.persons.handed_files import HandedFile
from quakegrid.services.web.persons.places import DriverPlaces
from quakegrid.services.web.persons.whose import SERVICE, Whose
from quakegrid.services.web.uploads.inputs import LEFT_BYTES
from quakegrid.settings.config import Settings, agent_socket

# Files that have not been sent yet, as readers are slow; each takes space on a disk until then.
MOST_FILES = 100
# Exports of large calculations take minutes.
TIMEOUT_S = 600.0
MOST_LINE_BYTES = 4 << 20
# Of folders that earlier releases made for the files of requests.
FOLDER_PREFIX = "quakegrid-web-"


class NothingMadeError(errors.NotFoundError):
    """A view has made no file; `told` is what its driver told."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__("there is nothing to make a file of")
        self.told = told


class EngineViews:
    """Runs requests that need the engine, a few at a time.

    Args:
        settings: of the cluster, whose agent must run on this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = DriverPlaces()
        self._formats: dict[str, list[str]] | None = None
        self._texts: dict[str, bytes] = {}
        self._files: list[HandedFile] = []
        self._folders: list[Path] = []

    async def formats(self) -> dict[str, list[str]]:
        """The formats of each kind of output; asked for once, as it depends on the engine's version only."""
        if self._formats is None:
            self._formats = (await self.run("formats"))["formats"]
        return self._formats

    async def text(self, name: str) -> bytes:
        """What an engine knows by itself, as JSON; asked for once, as it depends on its version only."""
        if name not in self._texts:
            self._texts[name] = await (await self.file(name)).read()
        return self._texts[name]

    async def run(
        self, name: str, *args: str, whose: Whose = SERVICE, folder: Path | None = None
    ) -> dict[str, Any]:
        """Run one request; gives what its driver told.

        Args:
            name: of the view.
            args: of the view.
            whose: as whom it runs.
            folder: of what was sent, for views that read it.
        Raises:
            PeerUnreachableError: there is no agent, too many wait, or it took too long.
            EngineMissingError: the agent has no engine.
            QuakeGridError: the engine could not do it, in its words.
        """
        with _opened(folder) as given:
            found, file = await self._in_turn([name, *args], whose, given)
        if file is not None:
            file.close()
        return found

    async def file(
        self,
        name: str,
        *args: str,
        whose: Whose = SERVICE,
        given: Sequence[HandedFile] = (),
        asker: str = "",
    ) -> HandedFile:
        """Run one request that makes a file; whoever asks closes it.

        Args:
            name: of the view.
            args: of the view.
            whose: as whom it runs.
            given: files of others, for views that read them.
            asker: whose place among those who wait it takes, if it runs as this service.
        Raises:
            As `run`.
            PeerUnreachableError: too many files wait to be sent, or the disk is full.
            NothingMadeError: there is nothing to make a file of.
        """
        await self._check_room()
        numbers = [each.number for each in given]
        found, file = await self._in_turn([name, *args], whose, numbers, asker)
        if file is None:
            raise NothingMadeError(found)
        self._files.append(file)
        return file

    async def _check_room(self) -> None:
        """Refuse to make a further file.

        Raises:
            PeerUnreachableError: too many are still there, as readers are slow, or the disk is full.
        """
        self._files = [file for file in self._files if file.is_open]
        place = self._settings.custom_tmp or tempfile.gettempdir()
        usage = await asyncio.to_thread(shutil.disk_usage, place)
        if len(self._files) >= MOST_FILES or usage.free < LEFT_BYTES:
            raise errors.PeerUnreachableError(
                f"{len(self._files)} results are on their way, and there is no room for another; "
                "try again later"
            )

    async def _in_turn(
        self, argv: Sequence[str], whose: Whose, given: Sequence[int], asker: str = ""
    ) -> tuple[dict[str, Any], HandedFile | None]:
        async with self._places.take(whose.asker if whose.person else asker):
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._run(argv, whose, given)
            except TimeoutError:
                raise errors.PeerUnreachableError(
                    f"the engine did not answer within {TIMEOUT_S:.0f} s; `quakegrid jobs export` has no "
                    "limit"
                ) from None

    async def _run(
        self, argv: Sequence[str], whose: Whose, given: Sequence[int]
    ) -> tuple[dict[str, Any], HandedFile | None]:
        request = {
            "argv": ["view", *argv],
            "cwd": "/",
            "environ": whose.environ(os.environ) | {"OQ_DISTRIBUTE": "no"},
            "mode": "run",
            "for_person": whose.person,
        }
        own_end, its_end = socket.socketpair()
        own_end.setblocking(False)
        try:
            fds = [its_end.fileno(), *given]
            async with self._connection(request, fds) as (reader, _writer):
                found = await _answer(reader)
            file = await handed_files.receive(own_end, found) if "file_name" in found else None
        finally:
            own_end.close()
            its_end.close()
        return found, file

    @asynccontextmanager
    async def _connection(
        self, request: dict[str, Any], fds: Sequence[int]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await connect(self._settings, request, fds)
        try:
            yield reader, writer
        finally:
            writer.close()


def refusal_of(event: Mapping[str, Any]) -> errors.QuakeGridError:
    """Why the agent starts no driver."""
    kind = errors.NotAllowedError if event.get("is_forbidden") else errors.EngineMissingError
    return kind(event["message"])


def open_folder(path: Path) -> int:
    """A descriptor of a folder, for a driver."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextmanager
def _opened(folder: Path | None) -> Iterator[list[int]]:
    """The descriptor of a folder; none without one."""
    numbers = [open_folder(folder)] if folder else []
    try:
        yield numbers
    finally:
        for number in numbers:
            os.close(number)


async def connect(
    settings: Settings, request: dict[str, Any], fds: Sequence[int] = ()
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask the agent of this machine for a driver; the connection on which it tells its events.

    Args:
        settings: of the cluster.
        request: for the driver.
        fds: what the driver is given.
    Raises:
        PeerUnreachableError: there is no agent.
    """
    path = agent_socket(settings.state_dir)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line = json.dumps(request).encode() + b"\n"
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, str(path))
        sent = socket.send_fds(connection, [line], fds)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MOST_LINE_BYTES)
    except OSError as exc:
        connection.close()
        raise errors.PeerUnreachableError(
            f"no agent answers at {path} ({exc.strerror}); results and calculations need one on this machine"
        ) from exc
    except BaseException:
        connection.close()
        raise
    writer.write(line[sent:])
    return reader, writer


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """What a driver tells until its end.

    Raises:
        QuakeGridError: it could not do what it was asked, or has gone.
    """
    found: dict[str, Any] | None = None
    async for line in reader:
        event = drivers.read_event(line)
        match event.get("event"):
            case "view":
                found = event
            case "error":
                raise errors.QuakeGridError(event["message"])
            case "refused":
                raise refusal_of(event)
            case "exit":
                if found is not None:
                    return _checked(found)
                raise errors.QuakeGridError(f"the engine ended with code {event['code']} and no answer")
    raise errors.PeerUnreachableError("the agent went away; try again")


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
