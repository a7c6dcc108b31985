"""The table of permissions: it has every call, and says what it should."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import MethodDescriptor

from quakegrid.access import permissions, principals
from quakegrid.access.permissions import Subject, Verdict
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.services.agent.node.doors import port as agent_port
from quakegrid.services.broker import server as broker_server
from quakegrid.services.dbserver.rpc import servicers
from tests.unit.house.test_protos import FILES

ANNA, BEN = Principal(PrincipalRole.USER, "anna"), Principal(PrincipalRole.USER, "ben")
OTTO, ADA = Principal(PrincipalRole.OPERATOR, "otto"), Principal(PrincipalRole.ADMIN, "ada")
DRIVER, NODE = Principal(PrincipalRole.DRIVER, "anna"), Principal(PrincipalRole.NODE, "n1")
WORKER = Principal(PrincipalRole.WORKER, "7")
ABORT = "/quakegrid.api.v1.Fleet/AbortJob"
SERVED = {*servicers.SERVICES, *broker_server.SERVICES, *agent_port.SERVICES}


def contract() -> Iterator[tuple[str, dict[str, object]]]:
    """The full name of each call of the contracts, with the fields of its request."""
    for file in FILES.values():
        messages = {message["name"]: message for message in file.get("messageType", [])}
        for service in file.get("service", []):
            for method in service["method"]:
                request = messages[method["inputType"].rpartition(".")[2]]
                fields = {field["name"]: field["type"] for field in request.get("field", [])}
                is_stream = method.get("clientStreaming", False)
                name = f"/{file['package']}.{service['name']}/{method['name']}"
                yield name, {"fields": fields, "is_stream": is_stream}


CONTRACT = dict(contract())
OURS = {name: row for name, row in permissions.TABLE.items() if name.startswith("/quakegrid.")}


def test_table_has_every_call_and_no_other() -> None:
    """Whoever adds a call decides who may make it."""
    assert OURS.keys() == CONTRACT.keys()


def test_table_has_every_service_that_listens() -> None:
    """Of dbserver, broker and agent."""
    assert {name.strip("/").partition("/")[0] for name in OURS} == SERVED


def test_table_has_the_calls_of_grpcs_own_services() -> None:
    """Health and reflection are open to whoever has a certificate."""
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    def full_name(method: MethodDescriptor) -> str:
        return f"/{method.containing_service.full_name}/{method.name}"

    services = [
        service
        for module in (health_pb2, reflection_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    names = {full_name(method) for service in services for method in service.methods}

    assert names == permissions.TABLE.keys() - OURS.keys()


@pytest.mark.parametrize("method", [name for name, row in OURS.items() if row.own_roles])
def test_call_for_what_is_ones_own_says_what_it_is_about(method: str) -> None:
    """By a field of its one request, which the check reads."""
    row, call = OURS[method], CONTRACT[method]
    field = {Subject.JOB: "job_id", Subject.NODE: "host", Subject.AGENT: ""}[row.subject]  # type: ignore[index]

    assert not call["is_stream"]
    if field:
        assert field in call["fields"]  # type: ignore[operator]
    else:  # it is about the node whose agent is called
        assert method.strip("/").partition("/")[0] in agent_port.SERVICES


def cells(method: str) -> dict[str, Verdict]:
    """One row of the table: what each role may do."""
    row = permissions.of(method)
    everybody = (principals.SERVICE, ANNA, OTTO, ADA, DRIVER, NODE, WORKER)
    return {str(each.role): permissions.judge(each, row) for each in everybody}


YES, OWN, NO = Verdict.YES, Verdict.IF_OWN, Verdict.NO


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # service, user, operator, admin, driver, node, worker
        ("/quakegrid.api.v1.Jobs/ListJobs", (YES, YES, YES, YES, YES, NO, NO)),
        (ABORT, (YES, OWN, YES, YES, OWN, NO, NO)),
        ("/quakegrid.api.v1.Jobs/DeleteJob", (YES, OWN, YES, YES, OWN, NO, NO)),
        ("/quakegrid.api.v1.Jobs/TransitionJob", (YES, NO, NO, NO, OWN, NO, NO)),
        ("/quakegrid.api.v1.Tags/DeleteTag", (YES, NO, YES, YES, NO, NO, NO)),
        ("/quakegrid.api.v1.Fleet/StopNodes", (YES, NO, YES, YES, NO, NO, NO)),
        ("/quakegrid.internal.v1.Membership/JoinNode", (YES, NO, NO, NO, NO, OWN, NO)),
        ("/quakegrid.internal.v1.Orders/StartWorkers", (YES, NO, NO, NO, NO, NO, NO)),
        ("/quakegrid.internal.v1.EngineCalls/Call", (YES, NO, NO, NO, YES, NO, NO)),
        ("/grpc.health.v1.Health/Check", (YES, YES, YES, YES, YES, YES, YES)),
        ("/quakegrid.api.v1.Jobs/NoSuchCall", (YES, NO, NO, NO, NO, NO, NO)),
    ],
)
def test_row_says(method: str, expected: tuple[Verdict, ...]) -> None:
    """A call that is not in the table is for services only."""
    assert tuple(cells(method).values()) == expected


def test_workers_may_ask_for_health_and_reflection_only() -> None:
    """They run the code of jobs, and talk to their lane."""
    allowed = [name for name in OURS if cells(name)["worker"] is not NO]

    assert allowed == []


@pytest.mark.parametrize("method", OURS)
def test_whoever_runs_the_cluster_may_do_what_users_may(method: str) -> None:
    """Roles of people go from the least to the most."""
    order = [NO, OWN, YES]
    row = cells(method)

    assert order.index(row["user"]) <= order.index(row["operator"]) <= order.index(row["admin"])


@pytest.mark.parametrize(
    ("principal", "subject", "owner", "expected"),
    [
        (ANNA, Subject.JOB, "anna", True),
        (ANNA, Subject.JOB, "ben", False),
        (ANNA, Subject.JOB, "", False),
        (DRIVER, Subject.JOB, "anna", True),
        (NODE, Subject.JOB, "n1", False),
        (WORKER, Subject.JOB, "", False),
        (NODE, Subject.NODE, "n1", True),
        (NODE, Subject.NODE, "n2", False),
    ],
)
def test_own_is_what_has_ones_name(
    principal: Principal, subject: Subject, owner: str, expected: bool
) -> None:
    """A node's name is no person's."""
    assert permissions.owns(principal, subject, owner) is expected


@pytest.mark.parametrize(
    ("principal", "method", "about", "words"),
    [
        (
            BEN,
            ABORT,
            ("job 7", "anna"),
            (
                "job 7 belongs to anna; you are ben (user) and may not abort jobs: that is for the owner, "
                "operators and admins"
            ),
        ),
        (
            NODE,
            "/quakegrid.internal.v1.Membership/JoinNode",
            ("the node n2",),
            (
                "the node n2 is not yours; you are the node n1 and may not join the cluster as a node: "
                "that is for the node itself"
            ),
        ),
        (
            ANNA,
            "/quakegrid.internal.v1.Orders/StartWorkers",
            (),
            "you are anna (user) and may not start workers: that is for services of the cluster",
        ),
    ],
)
def test_refusal_says_who_asks_and_who_may(
    principal: Principal, method: str, about: tuple[str, ...], words: str
) -> None:
    """And what was asked, and whose it is."""
    assert permissions.refusal(principal, permissions.of(method), *about) == words


def test_call_of_a_calculation_is_not_for_people() -> None:
    """And the words do not say that it is."""
    words = permissions.refusal(
        ADA, permissions.of("/quakegrid.internal.v1.Holds/RenewHold"), "job 7", "anna"
    )

    assert words.endswith("may not hold jobs: that is for the calculation itself")
