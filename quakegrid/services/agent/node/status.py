"""Encodes the status of a node and the end of a worker, as the agent tells them.

Decides nothing, and keeps nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from quakegrid import __version__
from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent as agents
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.agent.linux.exits import exit_code
from quakegrid.services.agent.node.drivers import Drivers
from quakegrid.services.agent.node.serving import Serving
from quakegrid.services.agent.node.templates.templates import Templates
from quakegrid.services.agent.rules.roster import Member, Roster
from quakegrid.settings.config import Settings

# What lists of nodes show from the moment on in which an agent is told to stop.
STOPPED_WORDS = "its agent was stopped"


def describe(
    roster: Roster, drivers: Drivers, templates: Templates, serving: Serving
) -> nodes_pb2.AgentStatus:
    """The part of a status that is known without looking at the machine.

    Args:
        roster: workers and drivers.
        drivers: know what each driver runs, and whether it is detached.
        templates: their state, and what they have loaded.
        serving: how many cores the fleet may use.
    """
    workers = [
        nodes_pb2.WorkerStatus(
            worker_id=member.name,
            session_id=member.session_id,
            pid=member.pid,
            core=member.core,
            cores=member.cores,
        )
        for member in roster.workers
    ]
    told = [
        nodes_pb2.DriverStatus(
            pid=member.pid,
            command=drivers.commands.get(member.name, ""),
            is_detached=member.name in drivers.detached,
        )
        for member in roster.drivers
    ]
    state, loaded = templates.state, templates.loaded
    status = nodes_pb2.AgentStatus(
        template_state=str(state),
        template_kind=agents.TEMPLATE_KINDS[state.kind],
        template_reason=state.reason,
        fingerprint=loaded.fingerprint,
        older_templates=[nodes_pb2.OlderTemplate(fingerprint=each.fingerprint) for each in templates.older],
        is_refreshing=templates.is_refreshing,
        workers=workers,
        drivers=told,
        version=__version__,
        engine_version=loaded.engine_version,
        core_count=serving.core_count,
        all_core_count=serving.all_core_count,
        service_state=serving.state,
    )
    status.sent_time.GetCurrentTime()
    return status


def say_goodbye(status: nodes_pb2.AgentStatus) -> None:
    """Change a status to that of an agent that ends its children and then itself: it starts no workers.

    The broker uses no cores of a node whose template has failed.
    """
    status.is_short_of_memory = False  # which would be told, too
    status.template_kind = agents.TEMPLATE_KINDS[TemplateKind.FAILED]
    status.template_state = status.template_reason = STOPPED_WORDS


def proof_kind(settings: Settings) -> nodes_pb2.NodeProofKind.ValueType:
    """How the node shows that it belongs to the cluster."""
    is_certified = bool(settings.node_name)
    return nodes_pb2.NODE_PROOF_KIND_CERTIFICATE if is_certified else nodes_pb2.NODE_PROOF_KIND_AUTHKEY


def describe_end(
    member: Member,
    status: int,
    reason: str,
    *,
    is_blameless: bool,
    last_output: Sequence[str],
    peak_memory_bytes: int,
) -> WorkerEnd:
    """How a worker ended.

    Args:
        member: the worker.
        status: its wait status.
        reason: in words.
        is_blameless: whether what it ran has no part in its end.
        last_output: the end of its stderr; left out if the worker ended as asked, or with exit code 0.
        peak_memory_bytes: largest resident memory of its life.
    """
    is_clean = status == 0 or member.is_ending
    return WorkerEnd(
        member.session_id,
        member.name,
        reason,
        is_clean,
        last_output=() if is_clean else tuple(last_output),
        is_blameless=is_blameless,
        peak_memory_bytes=peak_memory_bytes,
        exit_code=exit_code(status),
        signal=os.WTERMSIG(status),
    )
