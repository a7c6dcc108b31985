"""Files that drivers hand over, and files of the service's own account."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import httpx
import pytest

from quakegrid import errors
from quakegrid.services.web.persons import handed_files
from quakegrid.services.web.persons.handed_files import HandedFile, HandedFileResponse


def handed(*numbers: int, **told: str) -> HandedFile:
    """What comes of descriptors that a driver sends."""
    own, other = socket.socketpair()
    own.setblocking(False)
    with own, other:
        if numbers:
            socket.send_fds(other, [b"\0"], numbers)
        return asyncio.run(handed_files.receive(own, told))


def open_count() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - each is one number


def test_file_is_read_and_closed(tmp_path: Path) -> None:
    """Though it has no name any more; its own is made fit for a header."""
    path = tmp_path / "x"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        path.unlink()
        before = open_count()
        found = handed(file.fileno(), file_name='a/"b\r\nSet-Cookie: x\x7f.csv')

        assert asyncio.run(found.read()) == b"content"
        assert open_count() == before
    assert found.name == 'a_"b__Set-Cookie: x_.csv'


def test_what_is_no_plain_file_is_refused_and_closed() -> None:
    """A pipe would never end, a folder or nothing is none."""
    reader, writer = os.pipe()
    folder = os.open("/", os.O_RDONLY)
    before = open_count()
    for number in (reader, folder):
        with pytest.raises(errors.QuakeGridError, match="no plain file"):
            handed(number)
    with pytest.raises(errors.QuakeGridError, match="did not hand it over"):
        handed()
    assert handed(os.open(__file__, os.O_RDONLY), reader, folder).found.st_size > 0

    assert open_count() == before + 2  # the file and its copy: further ones are dropped
    for number in (reader, writer, folder):
        os.close(number)


async def asked(response: HandedFileResponse, headers: dict[str, str]) -> httpx.Response:
    """What a client gets."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(response), base_url="http://x") as client:
        return await client.get("/", headers=headers)


def test_ranges_are_sent_and_the_file_is_closed(tmp_path: Path) -> None:
    """Of a file that can only be read by its descriptor."""
    path = tmp_path / "x"
    path.write_bytes(bytes(range(100)))
    before = open_count()

    def ask(**headers: str) -> tuple[int, bytes]:
        file = HandedFile(os.open(path, os.O_RDONLY), path.stat(), {})
        answer = asyncio.run(asked(HandedFileResponse(file, "x/y", {"A": "b"}), headers))
        assert answer.headers["a"] == "b"
        return answer.status_code, answer.content

    assert ask() == (200, bytes(range(100)))
    assert ask(Range="bytes=10-19") == (206, bytes(range(10, 20)))
    assert ask(Range="bytes=-5") == (206, bytes(range(95, 100)))
    assert open_count() == before


def test_only_plain_files_of_the_own_account_are_opened_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No link, no second name of a file, none of somebody else."""
    path, link, name, pipe = (tmp_path / each for each in ("calc_1.hdf5", "link", "name", "pipe"))
    path.write_bytes(b"1")
    link.symlink_to(path)
    os.mkfifo(pipe)
    found = handed_files.own(str(path))
    assert found is not None
    assert found.name == "calc_1.hdf5"
    found.close()
    before = open_count()

    assert handed_files.own(str(link)) is None
    assert handed_files.own(str(pipe)) is None
    assert handed_files.own(str(tmp_path)) is None
    assert handed_files.own(str(tmp_path / "none")) is None
    name.hardlink_to(path)
    assert handed_files.own(str(path)) is None
    name.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert handed_files.own(str(path)) is None
    assert open_count() == before
