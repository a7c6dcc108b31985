"""What operators do to nodes on the page of the cluster: drain, start, restart, give another number of cores.

The broker passes each order on to the node's agent, and its audit log tells who gave it. `access/rights.py`
says who may give orders; pages of other sites may give none.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.services.web.api.calculations import backends_of, caller_of, mode_of
from quakegrid.settings.web.access import WebMode

# The broker waits up to 30 s for agents that hang.
ORDER_TIMEOUT_S = 45.0
MOST_CORES = 1 << 16


async def rights(request: Request) -> Response:
    """`GET /cluster/rights.json`: who asks, and whether they may change nodes."""
    caller = caller_of(request)
    may_operate = caller.is_staff and mode_of(request) is not WebMode.READ_ONLY
    found = {"name": caller.name, "may_operate": may_operate}
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


async def order(request: Request) -> Response:
    """`POST /cluster/nodes/HOST/ORDER`: `drain`, `start` or `restart` a node; tasks that it has end first."""
    host, what = request.path_params["host"], request.path_params["order"]
    user_name = caller_of(request).name
    broker = backends_of(request).broker
    stub = fleet_pb2_grpc.FleetStub(broker.open())
    answer: fleet_pb2.StopNodesResponse | fleet_pb2.StartNodesResponse | fleet_pb2.RestartNodesResponse
    match what:
        case "drain":
            stop = fleet_pb2.StopNodesRequest(hosts=[host], user_name=user_name)
            answer = await broker.call(stub.StopNodes, stop, ORDER_TIMEOUT_S)
        case "start":
            start = fleet_pb2.StartNodesRequest(hosts=[host], user_name=user_name)
            answer = await broker.call(stub.StartNodes, start, ORDER_TIMEOUT_S)
        case "restart":
            restart = fleet_pb2.RestartNodesRequest(hosts=[host], user_name=user_name)
            answer = await broker.call(stub.RestartNodes, restart, ORDER_TIMEOUT_S)
        case _:
            raise errors.NotFoundError(f"there is no order {what}; there are drain, start and restart")
    (node,) = answer.nodes
    if not node.is_reached:
        raise errors.PeerUnreachableError(f"the agent of {host} does not answer; it was not told")
    return JSONResponse({"host": host, "was_serving": node.was_serving})


async def set_cores(request: Request) -> Response:
    """`POST /cluster/nodes/HOST/cores`: let a node give `{"core_count": N}` cores, -1 for all."""
    user_name = caller_of(request).name
    broker = backends_of(request).broker
    stub = fleet_pb2_grpc.FleetStub(broker.open())
    asked = fleet_pb2.SetNodeCoresRequest(
        host=request.path_params["host"],
        core_count=_core_count(await request.body()),
        user_name=user_name,
    )
    answer = await broker.call(stub.SetNodeCores, asked, ORDER_TIMEOUT_S)
    return JSONResponse({"core_count": answer.core_count, "all_core_count": answer.all_core_count})


def _core_count(body: bytes) -> int:
    try:
        asked = json.loads(body)
        count = asked["core_count"]
    except (ValueError, KeyError, TypeError):
        raise errors.UsageError('send {"core_count": N} as JSON') from None
    if not isinstance(count, int) or isinstance(count, bool) or not -1 <= count <= MOST_CORES:
        raise errors.UsageError(f"a number of cores is -1 (all) to {MOST_CORES}")
    return count


ROUTES = [
    Route("/cluster/rights.json", rights),
    Route("/cluster/nodes/{host}/cores", set_cores, methods=["POST"]),
    Route("/cluster/nodes/{host}/{order}", order, methods=["POST"]),
]
