"""The reason of a failed call, as a client reads it that knows gRPC and Google's messages only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2, jobs_pb2_grpc, nodes_pb2, nodes_pb2_grpc
from quakegrid.settings.config import Settings
from quakegrid.transport import error_details, grpc_channels
from tests.support.processes import Service


def error_info(exc: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call, whose status says the same as the call."""
    metadata = dict(exc.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (exc.code().value[0], exc.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def fail(call: Callable[[], Any]) -> grpc.RpcError:
    """The failure of a call."""
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value


def test_dbserver_gives_the_reason(dbserver: Service) -> None:
    """In calls that a thread answers, and in streams."""
    address = dbserver.settings.dbserver_address
    with grpc_channels.open_channel(address, dbserver.settings.authkey) as channel:
        stub = jobs_pb2_grpc.JobsStub(channel)

        failure = fail(lambda: stub.GetJob(jobs_pb2.GetJobRequest(job_id=7)))

    assert failure.code() is grpc.StatusCode.NOT_FOUND
    assert error_info(failure) == error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="quakegrid")
    assert isinstance(grpc_channels.translate(failure, "dbserver", address), errors.NotFoundError)


def test_broker_gives_the_reason(settings: Settings) -> None:
    """The fleet has no node of that name."""
    service = Service(settings, "broker")
    try:
        service.start()
        with grpc_channels.open_channel(settings.broker_address, settings.authkey) as channel:
            stub = fleet_pb2_grpc.FleetStub(channel)

            failure = fail(lambda: stub.ForgetNode(fleet_pb2.ForgetNodeRequest(host="10.9.9.9")))
    finally:
        service.close()

    assert failure.code() is grpc.StatusCode.NOT_FOUND
    assert failure.details() == "the fleet has no node 10.9.9.9"
    assert error_info(failure) == error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="quakegrid")


def test_agent_gives_the_reason(settings: Settings) -> None:
    """No machine has so many cores."""
    service = Service(settings, "agent")
    try:
        service.start()
        address = f"127.0.0.1:{settings.agent_port}"
        with grpc_channels.open_channel(address, settings.authkey) as channel:
            stub = nodes_pb2_grpc.NodesStub(channel)

            failure = fail(lambda: stub.SetCores(nodes_pb2.SetCoresRequest(core_count=100_000)))
    finally:
        service.close()

    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(failure) == error_details_pb2.ErrorInfo(reason="USAGE", domain="quakegrid")
    assert isinstance(grpc_channels.translate(failure, "agent", address), errors.UsageError)


def test_server_of_threads_gives_the_reason() -> None:
    """The same metadata serve gRPC's servers that are no coroutines."""

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = error_details.metadata("STATE", grpc.StatusCode.FAILED_PRECONDITION, "not now")
        context.set_trailing_metadata(metadata)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Oracle", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            failure = fail(lambda: channel.unary_unary("/test.Oracle/Ask")(b""))
    finally:
        server.stop(None)

    assert error_details.reason_of(failure) == "STATE"
    assert error_info(failure).domain == "quakegrid"
