"""Code in a job that acts as somebody else, with what its process has. Each act says how it ended."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import closing

import grpc

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.connection import to_agent
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.clients.fleet_control import FleetControl
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.session.broker_link import BrokerLink
from quakegrid.settings import config
from quakegrid.settings.config import Settings

TIMEOUT_S = 20.0
DONE = "done"


def as_driver(settings: Settings, job_id: int, session_id: int) -> dict[str, str]:
    """What a driver tries.

    Args:
        settings: of its process.
        job_id: of another person.
        session_id: of another driver.
    """
    with DbClient(settings) as database, BrokerClient(settings) as broker:
        people = people_pb2_grpc.PeopleStub(database.connection.channel)
        return {
            "abort another's job": _try(lambda: broker.abort_job(job_id)),
            "end another's job": _try(lambda: database.call("finish", job_id, "failed")),
            "delete another's job": _try(lambda: database.jobs.delete_job(job_id, "", delete_files=True)),
            "be an operator": _try(lambda: _stop_nodes(settings)),
            "be an admin": _try(
                lambda: PeopleClient(database).issue("eve", PrincipalRole.ADMIN, datetime.timedelta(days=1))
            ),
            "be a service": _try(
                lambda: next(people.WatchCredentials(people_pb2.WatchCredentialsRequest(), timeout=TIMEOUT_S))
            ),
            "be the broker": _try(lambda: _start_workers(settings)),
            "be another session": _try(lambda: _close_session(settings, session_id)),
        }


def as_worker() -> dict[str, str]:
    """What a worker tries, which has no certificate."""
    settings = config.load_settings()
    return {
        "has no authkey": settings.authkey or "it has none",
        "ask the database": _try(lambda: _ask_database(settings)),
        "stop the nodes": _try(lambda: _stop_nodes(settings)),
    }


def _try(act: Callable[[], object]) -> str:
    try:
        act()
    except (errors.QuakeGridError, grpc.RpcError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return DONE


def _ask_database(settings: Settings) -> None:
    with DbClient(settings) as database:
        database.jobs.list_jobs(1)


def _stop_nodes(settings: Settings) -> None:
    with FleetControl(settings) as control:
        control.stop(is_forced=True)


def _start_workers(settings: Settings) -> None:
    with to_agent(settings, "127.0.0.1", TIMEOUT_S) as agent:
        stub = orders_pb2_grpc.OrdersStub(agent.channel)
        agent.call(stub.StartWorkers, orders_pb2.StartWorkersRequest())


def _close_session(settings: Settings, session_id: int) -> None:
    with closing(BrokerLink(settings)) as link:
        link.close_session(session_id, "", TIMEOUT_S)
