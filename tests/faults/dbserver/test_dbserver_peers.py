"""The dbserver and clients that misbehave: it goes on serving the others, in bounded memory."""

from __future__ import annotations

import datetime as dt
import errno
import os
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from quakegrid.access import principals
from quakegrid.api.v1 import logs_pb2, logs_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials, grpc_channels
from tests.support.processes import Service

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MB = 1 << 20
IDLE_COUNT = 1000
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def new_job_id(client: DbClient) -> int:
    """The id of a new job."""
    return client.jobs.create_job(data_dir="/tmp", calculation_mode="c", description="d", user_name="ada").id


def memory(service: Service, field: str) -> int:
    """A figure of the process's memory, in bytes."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


@contextmanager
def open_files(count: int) -> Iterator[None]:
    """This process may open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"the limit of open files is {hard}, below {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_garbage_on_the_port_disturbs_nobody(dbserver: Service, client: DbClient) -> None:
    """Bytes that are no TLS are dropped, and so are connections that say nothing and leave."""
    address = ("127.0.0.1", dbserver.settings.dbserver_port)
    job_id = new_job_id(client)

    for size in (0, 1, 100, 100_000):
        with socket.create_connection(address, timeout=30) as connection:
            try:
                connection.sendall(os.urandom(size))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError as exc:  # the server closed the connection before we did
                if exc.errno not in {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}:
                    raise

    assert client.jobs.get_job(job_id).id == job_id
    assert dbserver.stop() == 0


def test_message_of_a_gigabyte_is_refused_unread(dbserver: Service, client: DbClient) -> None:
    """The size in its head is enough to refuse it."""
    job_id = new_job_id(client)
    before = memory(dbserver, "VmHWM")
    channel = grpc.secure_channel(
        dbserver.settings.dbserver_address,
        credentials.channel_credentials(dbserver.settings.authkey),
        options=[
            ("grpc.max_send_message_length", -1),
            ("grpc.ssl_target_name_override", principals.PEER_NAME),
        ],
    )
    with channel:
        call = channel.unary_unary("/quakegrid.api.v1.Jobs/GetJob")

        with pytest.raises(grpc.RpcError) as refusal:
            call(bytes(1 << 30), timeout=120)

    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (refusal.value.details() or "")
    assert memory(dbserver, "VmHWM") - before < 100 * MB
    assert client.jobs.get_job(job_id).id == job_id


def test_idle_connections_leave_room_for_others(dbserver: Service, client: DbClient, tmp_path: Path) -> None:
    """A thousand clients that say nothing cost little, and calls are answered."""
    job_id = new_job_id(client)
    before = memory(dbserver, "VmRSS")
    context = tls_context(dbserver.settings, tmp_path)
    address = ("127.0.0.1", dbserver.settings.dbserver_port)
    with open_files(IDLE_COUNT + 500), ExitStack() as stack:
        for _ in range(IDLE_COUNT):
            plain = stack.enter_context(socket.create_connection(address, timeout=30))
            connection = stack.enter_context(context.wrap_socket(plain, server_hostname=principals.PEER_NAME))
            connection.sendall(HTTP2_START)

        with DbClient(dbserver.settings) as other:
            other.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "m")])
            assert other.logs.get_log_size(job_id) == 1
        assert memory(dbserver, "VmRSS") - before < 150 * MB
    assert client.jobs.get_job(job_id).id == job_id


def tls_context(settings: Settings, directory: Path) -> ssl.SSLContext:
    """What a client of the cluster shows and asks for, without gRPC."""
    identity = credentials.new_identity(settings.authkey)
    names = {"ca": identity.ca_pem, "key": identity.key_pem, "certificate": identity.certificate_pem}
    for name, pem in names.items():
        (directory / name).write_bytes(pem)
    context = ssl.create_default_context(cafile=str(directory / "ca"))
    context.load_cert_chain(directory / "certificate", directory / "key")
    context.set_alpn_protocols(["h2"])
    return context


def test_follower_that_stops_reading_costs_bounded_memory(dbserver: Service, client: DbClient) -> None:
    """What it does not take stays on the disk; when it reads again, it gets every line once."""
    job_id = new_job_id(client)
    lines = [LogLine(TIME, "INFO", "p", "x" * 10_000)] * 100
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        for _ in range(20):  # what storing takes by itself
            client.logs.append_log(job_id, lines)
        stub = logs_pb2_grpc.LogsStub(channel)
        pages = iter(stub.TailLog(logs_pb2.TailLogRequest(job_id=job_id)))
        ids = [line.id for line in next(pages).lines]
        before = memory(dbserver, "VmRSS")

        for _ in range(180):
            client.logs.append_log(job_id, lines)

        assert memory(dbserver, "VmRSS") - before < 80 * MB
        client.jobs.transition(job_id, JobState.COMPLETE)
        ids += [line.id for page in pages for line in page.lines]
    assert ids == sorted(set(ids))
    assert len(ids) == 20_000


def test_two_hundred_followers_see_every_line_once(dbserver: Service, client: DbClient) -> None:
    """Followers hold no thread, get the same lines, and leave calls their place."""
    job_id = new_job_id(client)
    client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "0")])
    seen: list[list[str]] = [[] for _ in range(200)]

    def follow(messages: list[str]) -> None:
        messages.extend(line.message for line in client.logs.tail_log(job_id))

    threads = [threading.Thread(target=follow, args=(messages,)) for messages in seen]
    for thread in threads:
        thread.start()
    for number in range(1, 100):
        client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", str(number))])
    client.jobs.transition(job_id, JobState.COMPLETE)
    for thread in threads:
        thread.join(60)

    assert seen == [[*map(str, range(100))]] * 200


def test_log_producer_that_reads_no_answer_is_held_back(dbserver: Service, client: DbClient) -> None:
    """Batches without end do not pile up in the dbserver; each is stored once."""
    job_id = new_job_id(client)
    line = logs_pb2.LogLine(level="INFO", process="p", message="x" * 10_000)
    batches = [
        logs_pb2.AppendLogRequest(job_id=job_id, request_id=f"{number}", lines=[line] * 100)
        for number in range(100)
    ]
    before = memory(dbserver, "VmRSS")
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        answers = logs_pb2_grpc.LogsStub(channel).AppendLog(iter([*batches, *batches]))

        counts = [answer.stored_count for answer in answers]

    assert counts == [100] * 100 + [0] * 100
    assert client.logs.get_log_size(job_id) == 10_000
    assert memory(dbserver, "VmRSS") - before < 150 * MB
