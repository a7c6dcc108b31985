"""Clients that are slow, silent or send too much: each costs the service little, for a while."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.services.web import connections, early_answers
from quakegrid.services.web.connections import PatientProtocol
from quakegrid.services.web.early_answers import EarlyAnswers
from tests.integration.web.conftest import Web
from tests.integration.web.sending import multipart
from tests.integration.web.test_rows import make_job
from tests.integration.web.test_uploads import RUN, left, most_memory_kib

WAIT_S = 60.0
READERS = 200
KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Quiet(uvicorn.Server):
    """A server that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Do nothing."""
        yield


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answers as many bytes as the path says, a megabyte at a time."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["path"][1:])):
        await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[tuple[int, Quiet]]:
    """A server of this application; its port."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        config = uvicorn.Config(
            application,
            lifespan="off",
            log_config=None,
            http=PatientProtocol,
            ws="none",
            timeout_keep_alive=1,
        )
        server = Quiet(config)
        task = asyncio.create_task(server.serve([port]))
        try:
            yield port.getsockname()[1], server
        finally:
            server.should_exit = True
            server.force_exit = True
            await task


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "begun", [b"", b"GET /0 HTTP/1.1\r\nHost: x\r\n", b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\nGET /"]
)
def test_head_that_does_not_come_is_not_waited_for(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first request, and of the next one on the same connection."""
    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    async def play() -> None:
        async with serving(app) as (port, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            async with asyncio.timeout(WAIT_S):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            await until(lambda: not server.server_state.connections)
            writer.close()

    asyncio.run(play())


@pytest.mark.full
def test_reader_who_takes_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one who takes what there is may take all of it, though it lasts longer."""
    monkeypatch.setattr(connections, "STALL_S", 0.5)

    async def play() -> int:
        async with serving(app) as (port, server):
            _, stuck = await asyncio.open_connection("127.0.0.1", port)
            stuck.transport.pause_reading()  # type: ignore[attr-defined]
            stuck.write(b"GET /100 HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: bool(server.server_state.connections))
            await until(lambda: not server.server_state.connections)
            stuck.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /60 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            taken = 0
            while block := await reader.read(MIB):
                taken += len(block)
                await asyncio.sleep(0.01)
            writer.close()
            return taken

    assert asyncio.run(play()) > 60 * MIB


def test_answer_before_the_end_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little of what comes is thrown away, so that the answer arrives."""
    monkeypatch.setattr(early_answers, "LINGER_BYTES", MIB)

    async def play() -> tuple[int, bytes]:
        async with serving(EarlyAnswers(app)) as (port, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000000\r\n\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 2_000_000_000:
                    writer.write(bytes(64 * KIB))
                    await writer.drain()
                    sent += 64 * KIB
            await until(lambda: not server.server_state.connections)
            return sent, answer

    sent, answer = asyncio.run(play())

    assert b"connection: close" in answer.lower()
    assert sent < 64 * MIB  # what was thrown away, and what the kernel takes


def test_two_gigabytes_are_refused_at_once(web: Web) -> None:
    """The service reads no more of them than it throws away, and keeps none."""
    before = most_memory_kib(web)
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: localhost:{web.settings.web_port}\r\nContent-Length: {2 << 30}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    sent = 0
    with socket.create_connection(("127.0.0.1", web.settings.web_port), WAIT_S) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(1000)
        with contextlib.suppress(OSError):
            while sent < 2 << 30:
                connection.sendall(bytes(MIB))
                sent += MIB

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 64 * MIB
    assert most_memory_kib(web) - before < 16 * KIB
    assert left(web) == []


def datastore(client: DbClient, folder: Path, size: int) -> str:
    """The address of a datastore of this size, which takes no disk."""
    job_id = make_job(client, "large", data_dir=str(folder))
    path = Path(f"{client.jobs.get_job(job_id).ds_calc_dir}.hdf5")
    with path.open("wb") as file:
        file.truncate(size)
    return f"/v1/calc/{job_id}/datastore"


def test_slow_readers_cost_little(web: Web, client: DbClient, tmp_path: Path) -> None:
    """Two hundred who take next to nothing: others are answered, and memory is bounded."""
    large = datastore(client, tmp_path, GIB)
    assert web.get(large, Range="bytes=0-9").status == 206
    before = most_memory_kib(web)
    slow = []
    try:
        for number in range(READERS):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", web.settings.web_port))
            path = large if number % 2 else "/live/jobs"
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost:{web.settings.web_port}\r\n\r\n".encode()
            )
            slow.append(connection)
        for connection in slow:
            assert connection.recv(1)
        for number in range(100):
            make_job(client, f"told to those who do not listen {number} " + "x" * 1000)

        assert web.get("/health").status == 200
        assert len(web.get("/v1/calc/list").json) == 100
        assert most_memory_kib(web) - before < 60 * KIB
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.full
def test_gigabyte_costs_no_memory(web: Web, client: DbClient, tmp_path: Path) -> None:
    """A file is sent with its length, and parts of it are."""
    large = datastore(client, tmp_path, GIB)
    assert web.get(large, Range="bytes=0-9").status == 206
    before = most_memory_kib(web)
    connection = http.client.HTTPConnection("127.0.0.1", web.settings.web_port, timeout=WAIT_S)
    connection.request("GET", large)
    answer = connection.getresponse()
    taken = 0
    while block := answer.read(MIB):
        taken += len(block)
    connection.close()

    assert answer.headers["Content-Length"] == str(GIB)
    assert taken == GIB
    part = web.get(large, Range=f"bytes={GIB - 5}-")
    assert (part.status, part.body) == (206, bytes(5))
    assert part.headers["content-range"] == f"bytes {GIB - 5}-{GIB - 1}/{GIB}"
    assert most_memory_kib(web) - before < 16 * KIB


@pytest.mark.full
def test_uploads_that_stop_are_ended(web: Web) -> None:
    """A half of a body, and nothing more: a folder of it goes when its sender goes."""
    body, headers = multipart({}, [("archive", "job.zip", bytes(MIB))])
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: localhost:{web.settings.web_port}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: {headers['Content-Type']}\r\n\r\n"
    )
    begun = [socket.create_connection(("127.0.0.1", web.settings.web_port), WAIT_S) for _ in range(3)]
    for connection in begun:
        connection.sendall(head.encode() + body[: 512 * KIB])
    end_s = time.monotonic() + WAIT_S
    while len([name for name in left(web) if "/" not in name]) < len(begun):
        assert time.monotonic() < end_s
        time.sleep(0.01)

    said = web.post(RUN, body, Content_Type=headers["Content-Type"])
    for connection in begun:
        connection.close()

    assert said.status == 503
    assert "uploads are on their way" in said.json["error"]
    while left(web):
        assert time.monotonic() < end_s
        time.sleep(0.01)
