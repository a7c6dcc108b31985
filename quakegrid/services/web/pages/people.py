"""Who has credentials and certificates, until when, and who did what; for operators and admins."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid.access.audits import AuditRecord
from quakegrid.api.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    node_access_pb2,
    node_access_pb2_grpc,
    people_pb2,
    people_pb2_grpc,
)
from quakegrid.clients import node_access
from quakegrid.clients.audit import messages
from quakegrid.clients.dbserver import people
from quakegrid.clients.dbserver.people import IssuedCredential
from quakegrid.clients.node_access import ListedNode
from quakegrid.services.web.api.calculations import backends_of

SHOWN_RECORDS = 50
# Nobody reads more of these.
SHOWN_ENDS = 500
# Who has a credential that ends sooner is told to ask for another one.
SOON = datetime.timedelta(days=14)


async def listed(request: Request) -> Response:
    """`GET /cluster/people.json`: credentials of people, certificates of nodes, and the audit log's end."""
    dbserver = backends_of(request).dbserver
    channel = dbserver.open()
    of_people, of_nodes = people_pb2_grpc.PeopleStub(channel), node_access_pb2_grpc.NodeAccessStub(channel)
    asked = audit_pb2.ListAuditRequest(page_size=SHOWN_RECORDS)
    credentials, nodes, records = await asyncio.gather(
        dbserver.call(of_people.ListCredentials, people_pb2.ListCredentialsRequest()),
        dbserver.call(of_nodes.ListNodes, node_access_pb2.ListNodesRequest()),
        dbserver.call(audit_pb2_grpc.AuditStub(channel).ListAudit, asked),
    )
    now_time = datetime.datetime.now(datetime.UTC)
    found = sorted(map(people.decode_credential, credentials.credentials), key=lambda each: each.end_time)
    hosts = sorted(map(node_access.decode_node, nodes.nodes), key=lambda each: each.end_time)
    answer = {
        "people": [_end(each, now_time) | {"name": each.name, "role": each.role} for each in found][
            -SHOWN_ENDS:
        ],
        "nodes": [_end(each, now_time) | {"host": each.host} for each in hosts][-SHOWN_ENDS:],
        "audit": [_record(messages.decode(each)) for each in records.records],
    }
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def _end(found: IssuedCredential | ListedNode, now_time: datetime.datetime) -> dict[str, Any]:
    """When a credential or certificate ends; `is_soon` if somebody should see to another one."""
    state = found.state(now_time)
    is_soon = state == "valid" and found.end_time - now_time < SOON
    return {"end_s": found.end_time.timestamp(), "state": state, "is_soon": is_soon}


def _record(record: AuditRecord) -> dict[str, Any]:
    about = record.about
    return {
        "id": record.id,
        "time_s": record.time_s,
        "who": record.name or about.told or record.role or "nobody",
        "role": record.role,
        "action": about.action,
        "job_id": about.job_id,
        "owner": record.owner,
        "about": ", ".join(filter(None, (about.node, about.person, about.detail))),
        "outcome": record.outcome,
        "count": record.count,
        "service": record.service,
    }


ROUTES = [Route("/cluster/people.json", listed)]
