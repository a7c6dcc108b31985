"""Services go on serving, whoever connects to their ports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quakegrid import errors, health, testing
from quakegrid.machine import service_life
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials, grpc_channels
from tests.support import strangers
from tests.support.nodes import NodeService, wait_until
from tests.support.processes import Service

BAD_PATH = b"/quakegrid\xff/x"


@pytest.fixture
def node(tmp_path: Path) -> Settings:
    """A cluster of one machine whose services are not started yet, without the engine."""
    (tmp_path / "home").mkdir()
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    return config.load_settings(tmp_path / "state", {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture(params=["dbserver", "broker", "agent"])
def service(node: Settings, request: pytest.FixtureRequest) -> Iterator[NodeService]:
    """Each of the services, running."""
    service = NodeService(node, request.param)
    try:
        service.start()
        yield service
    finally:
        service.close()


def address_of(service: NodeService) -> str:
    """Where it listens."""
    settings = service.settings
    port = {
        "dbserver": settings.dbserver_port,
        "broker": settings.broker_port,
        "agent": settings.agent_port,
    }
    return f"127.0.0.1:{port[service.name]}"


def test_port_that_a_bad_path_has_closed_is_opened_again(service: NodeService) -> None:
    """A request whose path is not UTF-8 ends gRPC's accept loop: and the process would live on."""
    log = service.settings.state_dir / f"{service.name}.log"
    for count in range(1, 4):
        strangers.call_path(address_of(service), service.settings.authkey, BAD_PATH)
        wait_until(lambda count=count: log.read_text().count("port_reopened") == count)
        wait_until(lambda: answers(service))

    assert service.process is not None
    assert service.process.poll() is None
    assert service.stop() == 0


def test_port_is_opened_again_while_a_stream_is_open() -> None:
    """The stream is ended as by a restart; it may have lasted for days."""
    authkey = secrets.token_hex(32)

    async def wait_for_ever(_requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await context.send_initial_metadata(())
        await asyncio.Event().wait()

    async def scene() -> None:
        (number,) = testing.free_ports(1)
        address = f"127.0.0.1:{number}"

        def make() -> grpc.aio.Server:
            server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
            handlers = {"Wait": grpc.stream_stream_rpc_method_handler(wait_for_ever)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
            server.add_secure_port(address, credentials.server_credentials(authkey))
            return server

        port = service_life.Port(make)
        await port.start()
        staying = asyncio.create_task(port.stay_open())
        async with grpc_channels.open_aio_channel(address, authkey) as channel:
            for _ in range(2):
                stream = channel.stream_stream("/test/Wait")(wait_for_ready=True)
                await stream.initial_metadata()

                await asyncio.to_thread(strangers.call_path, address, authkey, BAD_PATH)

                assert await stream.code() in grpc_channels.NO_ANSWER
        await port.stop(0)
        await staying

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_port_that_is_stopped_while_it_is_opened_again_stays_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Else the service would wait for the end of a port that nobody stops any more."""
    authkey = secrets.token_hex(32)

    async def scene() -> None:
        (number,) = testing.free_ports(1)
        address = f"127.0.0.1:{number}"

        def make() -> grpc.aio.Server:
            server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
            server.add_secure_port(address, credentials.server_credentials(authkey))
            return server

        class StopAtWarning(logging.Handler):
            stopping: asyncio.Task[None] | None = None

            def emit(self, _record: logging.LogRecord) -> None:
                self.stopping = asyncio.create_task(port.stop(0))

        port = service_life.Port(make)
        handler = StopAtWarning()
        service_life.log.addHandler(handler)
        try:
            await port.start()
            staying = asyncio.create_task(port.stay_open())
            await asyncio.to_thread(strangers.call_path, address, authkey, BAD_PATH)
            await staying
        finally:
            service_life.log.removeHandler(handler)
        assert handler.stopping is not None
        await handler.stopping

    asyncio.run(asyncio.wait_for(scene(), 60))

    assert "port_reopened" in caplog.text


def answers(service: NodeService) -> bool:
    """Whether a service says that it serves."""
    try:
        return health.is_serving(service.settings, service.name)
    except errors.PeerUnreachableError:
        return False


def test_service_may_open_as_many_files_as_the_machine_allows(service: NodeService) -> None:
    """A thousand silent connections do not lock a service out."""
    assert service.process is not None
    limits = Path(f"/proc/{service.process.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    soft, hard = line.split()[3:5]

    assert soft == hard


def test_stranger_without_the_key_writes_no_log(service: NodeService) -> None:
    """The words of a refused handshake are the stranger's, and so would be the size of the log."""
    log = service.settings.state_dir / f"{service.name}.log"
    before = log.read_bytes()

    for _ in range(20):
        assert not strangers.is_let_in(address_of(service), "forged\nserver_name.example")

    assert [line for line in log.read_bytes()[len(before) :].splitlines() if b"example" in line] == []


def test_silent_connections_are_closed_and_hold_up_nobody(dbserver_process: Service) -> None:
    """They would hold an open file each; gRPC's own limit is two minutes."""
    address = dbserver_process.settings.dbserver_address
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(300)]

        is_serving = health.is_serving(dbserver_process.settings, "dbserver")

        assert is_serving
        assert [connection.recv(1) for connection in silent] == [b""] * len(silent)


def test_address_that_is_of_no_port_here_is_told_as_such() -> None:
    """In the words of the system: that of another machine, and a port that was free again at once."""

    async def bind() -> None:
        server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
        grpc_channels.bind(server, "192.0.2.1:0", secrets.token_hex(32), ("clock", "[clock] listen"))

    with pytest.raises(
        errors.QuakeGridError, match=r"listen on 192\.0\.2\.1:0: Cannot assign requested address"
    ):
        asyncio.run(bind())
    assert grpc_channels._why_not_bound(f"{config.LOOPBACK}:0") == "the port was in use"


def test_port_that_is_in_use_is_told_with_the_settings_that_choose_it() -> None:
    """Of any service; and whether a service serves is told for it and each of its parts."""
    authkey = secrets.token_hex(32)

    async def bind() -> tuple[str, list[int]]:
        with socket.create_server((config.LOOPBACK, 0)) as taken:
            address = f"{config.LOOPBACK}:{taken.getsockname()[1]}"
            server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
            with pytest.raises(errors.QuakeGridError) as refused:
                grpc_channels.bind(server, address, authkey, ("clock", "[clock] port"))
        server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
        port = grpc_channels.bind(server, f"{config.LOOPBACK}:0", authkey, ("clock", "[clock] port"))
        told = service_life.Health(["clock.v1.Clock"])
        told.add_to(server)
        await server.start()
        states = []
        async with grpc_channels.open_aio_channel(f"{config.LOOPBACK}:{port}", authkey) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for is_serving in (True, False):
                await told.tell(is_serving=is_serving)
                for name in ("", "clock.v1.Clock"):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
                    states.append(answer.status)
        await server.stop(0)
        return str(refused.value), states

    words, states = asyncio.run(bind())

    assert "the clock cannot listen on 127.0.0.1:" in words
    assert words.endswith(
        ": Address already in use; stop what uses the port, or see [clock] port in openquake.cfg"
    )
    status = health_pb2.HealthCheckResponse
    assert states == [status.SERVING, status.SERVING, status.NOT_SERVING, status.NOT_SERVING]
