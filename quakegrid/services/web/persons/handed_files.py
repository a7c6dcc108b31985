"""Files that drivers hand over as descriptors, and answers that send them.

A file belongs to the account of the driver, and often has no name any more. A person can change what is in it
while it is sent, as they can change the answer itself; they cannot lead this service to another file.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from quakegrid import errors

MOST_NAME_CHARS = 200
# Parts of a file in one answer; each costs a header and a seek.
MOST_RANGES = 16
# Of a file that is read as a whole: pictures and parameters have some 100 KB.
MOST_READ_BYTES = 64 << 20


class HandedFile:
    """An open file from a driver; `close` it.

    Args:
        number: of the descriptor, owned from now on.
        found: what the kernel says of the file.
        told: what the driver told of it.
    """

    def __init__(self, number: int, found: os.stat_result, told: Mapping[str, Any]) -> None:
        self.number, self.found, self.told = number, found, told
        self.is_open = True

    @property
    def name(self) -> str:
        """Its name, as a header can have it."""
        name = str(self.told.get("file_name", "file"))[-MOST_NAME_CHARS:]
        return "".join(
            char if char.isascii() and char.isprintable() and char != "/" else "_" for char in name
        )

    async def read(self) -> bytes:
        """All of it, for small files; closes it.

        Raises:
            QuakeGridError: it is no small file.
        """
        try:
            if self.found.st_size > MOST_READ_BYTES:
                raise errors.QuakeGridError(f"{self.name} has more than {MOST_READ_BYTES >> 20} MB")
            return await asyncio.to_thread(self._read)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it."""
        if self.is_open:  # otherwise the number may be another file's
            self.is_open = False
            os.close(self.number)

    def _read(self) -> bytes:
        with open(self.number, "rb", closefd=False) as file:
            return file.read(self.found.st_size)


async def receive(own_end: socket.socket, told: Mapping[str, Any]) -> HandedFile:
    """Take the file that a driver has sent before it told of it.

    Raises:
        QuakeGridError: there is none, or it is no plain file.
    """
    try:
        _data, numbers, _flags, _address = socket.recv_fds(own_end, 1, 1)
    except BlockingIOError:
        numbers = []
    if not numbers:
        raise errors.QuakeGridError("the driver has made a file, and did not hand it over")
    number = numbers[0]
    try:
        # A thread asks: the file may be on a disk far away.
        found = await asyncio.to_thread(os.fstat, number)
    except OSError as exc:
        os.close(number)
        raise errors.QuakeGridError(f"the file of the driver cannot be read: {exc.strerror}") from exc
    except BaseException:
        os.close(number)
        raise
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise errors.QuakeGridError("what the driver has handed over is no plain file")
    return HandedFile(number, found, told)


def own(path: str) -> HandedFile | None:
    """A file of this service's own account, without a driver; None if it is none, or is not there.

    A person who could name any file by a link would get what only this service may read. So the file must
    belong to this account, and have one name.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        os.close(number)
        return None
    return HandedFile(number, found, {"file_name": os.path.basename(path)})  # noqa: PTH119 - a text


class HandedFileResponse(FileResponse):
    """Sends a file that was handed over, or a range of it, and lets go of it.

    Args:
        file: to send, owned from now on.
        media_type: of the answer.
        headers: beside those of any file.
    """

    def __init__(self, file: HandedFile, media_type: str, headers: Mapping[str, str]) -> None:
        self._handed = file
        path = f"/proc/self/fd/{file.number}"  # for messages
        super().__init__(path, headers=headers, media_type=media_type, stat_result=file.found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, whole or in parts; of too many parts it is the whole, as HTTP allows."""
        wanted = next((value for name, value in scope["headers"] if name == b"range"), b"")
        if wanted.count(b",") >= MOST_RANGES:
            scope = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"range"]}
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._handed.close()

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        # By its path, the kernel would ask for the rights of its owner.
        async with anyio.wrap_file(os.fdopen(os.dup(self._handed.number), "rb")) as file:
            await file.seek(0)
            yield file
