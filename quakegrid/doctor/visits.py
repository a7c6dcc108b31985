"""Asks every node of a cluster at once, and makes findings of the answers.

Dead nodes cost some seconds, however many there are.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

from quakegrid import errors
from quakegrid.clients import agent as agents
from quakegrid.clients import broker as fleet
from quakegrid.doctor import accounts, codec, gathering, probes, web_door
from quakegrid.doctor.checks import cluster_checks, network_checks
from quakegrid.doctor.checks.cluster_checks import SharedFolder
from quakegrid.doctor.checks.findings import Finding, Severity, in_order
from quakegrid.doctor.checks.people_checks import Asked
from quakegrid.doctor.facts import PortFacts, PortState, Visit, clock_of
from quakegrid.doctor.gathering import Errand
from quakegrid.doctor.installed import own_versions
from quakegrid.doctor.nonces import nonce_name
from quakegrid.internal.v1 import examination_pb2, examination_pb2_grpc
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

# Time for the node's own looks, and some more for a node that is busy.
EXAMINE_TIMEOUT_S = probes.PROBE_TIMEOUT_S + 5.0
MAX_THREADS = 64

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Fleet:
    """The broker's answer: nodes, and ports of lanes; empty if it does not answer."""

    # The nodes, each with the address of its agent; empty if an older broker does not say it.
    addresses: Mapping[str, str] = field(default_factory=dict)
    lane_ports: tuple[int, ...] = ()


def examine_cluster(settings: Settings, on_progress: Progress) -> list[Finding]:
    """Findings of this machine, the master, and of all nodes.

    Args:
        settings: of the cluster.
        on_progress: called with what the doctor waits for.
    """
    on_progress("looking at this machine")
    known = _ask_broker(settings)
    with nonce(settings.shared_dir) as shared:
        name = nonce_name(shared.nonce) if shared.nonce else ""
        asked = _ask_about_people(settings)
        errand = Errand(settings.shared_dir, name, known.lane_ports, _names(settings, asked))
        master = gathering.Gatherer(settings).gather(0, errand, is_master=True)
        master = replace(master, instance_id=_own_agent(settings))
        named = dict.fromkeys((item.host for item in settings.agent_host_cores), "")
        visits = visit_all(settings, named | dict(known.addresses), errand, on_progress)
    return cluster_checks.check_cluster(master, visits, shared, asked)


def examine_here(settings: Settings) -> list[Finding]:
    """Findings of this machine: as its agent sees it, or as we do if that does not answer."""
    errand = Errand(lane_ports=_ask_broker(settings).lane_ports)
    local = agents.local_settings(settings)
    host = agents.local_host(settings)
    found = visit(local, settings.node_name or host, errand, f"{host}:{local.agent_port}")
    facts = found.facts or gathering.Gatherer(settings).gather(os.cpu_count() or 1, errand)
    return in_order(
        [
            *cluster_checks.check_agent(found, facts.node),
            *cluster_checks.check_here(facts, facts.node),
            cluster_checks.check_versions(own_versions(), facts.versions, facts.node),
            *(_check_membership(settings, facts.node) if found.facts else ()),
        ]
    )


def _own_agent(settings: Settings) -> str:
    """The instance id of this machine's agent; empty if it does not answer soon."""
    port = PortFacts("agent", agents.local_host(settings), agents.local_settings(settings).agent_port)
    if not settings.proof or probes.look_at_port(port, settings.proof) is not PortState.OPEN:
        return ""
    with closing(agents.local_client(settings)) as agent, contextlib.suppress(errors.QuakeGridError):
        return agent.status().instance_id
    return ""


def _check_membership(settings: Settings, label: str) -> Iterator[Finding]:
    """Whether the master that this node joined, which its settings need not name, has the node."""
    with closing(agents.local_client(settings)) as agent, contextlib.suppress(errors.PeerUnreachableError):
        status = agent.status()
        if status.is_watched or not status.master:
            return
        host, _, number = status.master.rpartition(":")
        port = PortFacts("broker", host, int(number))
        port = replace(port, state=probes.look_at_port(port, settings.proof))
        if port.state is not PortState.OPEN:
            yield network_checks.check_port(port, label)
            return
        yield Finding(
            "membership",
            Severity.BREAKS,
            label,
            f"the broker at {status.master} answers and does not have this node yet",
            "the node gets no tasks",
            "`agentctl logs` says why it is refused; after a start it takes some seconds",
        )


def visit_all(
    settings: Settings, addresses: Mapping[str, str], errand: Errand, on_progress: Progress
) -> list[Visit]:
    """Ask the agents of all hosts side by side; in the order of `addresses`, of which some may be empty."""
    visits: dict[str, Visit] = {}
    hosts = tuple(addresses)
    with ThreadPoolExecutor(min(len(hosts), MAX_THREADS) or 1) as pool:
        waiting = {pool.submit(visit, settings, host, errand, addresses[host]): host for host in hosts}
        on_progress(_waiting_text(hosts))
        for future in as_completed(waiting):
            visits[waiting[future]] = future.result()
            on_progress(_waiting_text([host for host in hosts if host not in visits]))
    return [visits[host] for host in hosts]


def visit(settings: Settings, host: str, errand: Errand, address: str = "") -> Visit:
    """Try a node's port, then ask its agent for the node's facts.

    Args:
        settings: of the cluster.
        host: what the fleet calls the node.
        errand: what is asked.
        address: of its agent; empty for the usual port of the host.
    """
    address = address or f"{host}:{settings.agent_port}"
    place, _, number = address.rpartition(":")
    port = PortFacts("agent", place, int(number), node=host)
    port = replace(port, state=probes.look_at_port(port, settings.proof or None))
    if port.state is not PortState.OPEN or not settings.proof:
        return Visit(host, port)
    request = examination_pb2.ExamineRequest(
        shared_dir=errand.shared_dir,
        nonce_name=errand.nonce_name,
        lane_ports=errand.lane_ports,
        account_names=errand.account_names,
    )
    with closing(grpc_channels.open_channel(address, settings.proof, host)) as channel:
        try:
            grpc_channels.wait_until_ready(channel, address, "agent")
            send_time = datetime.datetime.now(datetime.UTC)
            answer = examination_pb2_grpc.ExaminationStub(channel).Examine(request, timeout=EXAMINE_TIMEOUT_S)
            receive_time = datetime.datetime.now(datetime.UTC)
        except grpc.RpcError as exc:
            return Visit(host, port, error=_error_text(exc, address))
        except errors.PeerUnreachableError as exc:
            return Visit(host, port, error=str(exc))
    there = (
        answer.receive_time.ToDatetime(datetime.UTC),
        answer.send_time.ToDatetime(datetime.UTC),
    )
    clock = clock_of(send_time, *there, receive_time)
    return Visit(host, port, codec.decode_facts(answer.facts), clock)


@contextlib.contextmanager
def nonce(shared_dir: str) -> Iterator[SharedFolder]:
    """A file in the shared directory that only a machine that has the same one can read; removed after."""
    if not shared_dir:
        yield SharedFolder()
        return
    text = secrets.token_hex(16)
    path = Path(shared_dir, nonce_name(text))
    is_late = threading.Event()
    written, _ = probes.Probes().run({"nonce": lambda: _write_nonce(path, text, is_late)})
    is_late.set()
    error = written.get("nonce", "it does not answer")
    try:
        yield SharedFolder(shared_dir, "" if error else text, error)
    finally:
        if not error:
            probes.Probes().run({"nonce": lambda: path.unlink(missing_ok=True)})


def _write_nonce(path: Path, text: str, is_late: threading.Event) -> str:
    """Write a nonce, for every user to read; why that is not possible, or empty."""
    try:
        path.write_text(text, encoding="ascii")
        path.chmod(0o644)
        if is_late.is_set():
            path.unlink()
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def _ask_broker(settings: Settings) -> _Fleet:
    """Nodes and lanes as the broker knows them; it is asked only if it answers soon."""
    port = PortFacts("broker", settings.broker_host, settings.broker_port)
    if not settings.authkey or probes.look_at_port(port, settings.authkey) is not PortState.OPEN:
        return _Fleet()
    with fleet.BrokerClient(settings) as broker, contextlib.suppress(errors.QuakeGridError):
        status = broker.status()
        lanes = (lane.port for lane in status.lanes if lane.state == "open")
        return _Fleet({node.host: node.address for node in status.nodes}, tuple(lanes))
    return _Fleet()


def _ask_about_people(settings: Settings) -> Asked:
    """Who uses the cluster, as the dbserver knows it; it is asked only if it answers soon."""
    now_s = time.time()
    port = PortFacts("dbserver", settings.dbserver_host, settings.dbserver_port)
    if not settings.authkey or probes.look_at_port(port, settings.authkey) is not PortState.OPEN:
        return Asked(now_s=now_s, web=web_door.find(settings))
    owners, found = accounts.find_owners(settings), accounts.find_credentials(settings)
    return Asked(owners, found, now_s, web_door.find(settings))


def _names(settings: Settings, asked: Asked) -> tuple[str, ...]:
    """People whose accounts are compared: who has jobs, and who may start some here."""
    found, _ = probes.Probes().run({"people": lambda: accounts.look_at_people(settings)})
    members = found["people"].members if "people" in found else ()
    return tuple(sorted({*asked.owners, *members}))[: accounts.MOST_NAMES]


def _error_text(exc: grpc.RpcError, address: str) -> str:
    if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"the agent at {address} is of an older QuakeGrid, which knows no doctor; upgrade it"
    return str(grpc_channels.translate(exc, "agent", address))


def _waiting_text(hosts: Sequence[str]) -> str:
    shown = ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} others" if len(hosts) > 3 else "")
    return f"asking {shown}" if hosts else ""
