"""Checks between machines: versions, clocks, the shared directory. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from quakegrid.doctor.checks import network_checks, node_checks, people_checks, web_checks
from quakegrid.doctor.checks.findings import Finding, Severity, fine, in_order
from quakegrid.doctor.checks.people_checks import Asked
from quakegrid.doctor.facts import Clock, NodeFacts, PeopleFacts, Versions, Visit
from quakegrid.nodes.fingerprint import NONE, Fingerprint, differences
from quakegrid.settings.config import LOOPBACK
from quakegrid.settings.hosts import is_loopback
from quakegrid.transport import certificates

# With smaller differences of clocks, log lines of different nodes are in order.
CLOCK_TOLERANCE_S = 1.0
NOBODY = Asked()
AGENT_REMEDY = "see the agent's log there, and `agentctl status`"


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """The asking machine's `shared_dir` (empty: none), the nonce in it, or why that could not be written."""

    path: str = ""
    nonce: str = ""
    error: str = ""


def check_cluster(
    master: NodeFacts, visits: Sequence[Visit], shared: SharedFolder, asked: Asked = NOBODY
) -> list[Finding]:
    """All findings, the worst first; equal findings of two processes on one machine are told once."""
    visits = _each_once(master, visits)
    is_alone = all(_is_on(master, visit) for visit in visits)
    found = [
        (master.machine, finding) for finding in _check_master(master, visits, shared, is_alone=is_alone)
    ]
    for visit in visits:
        machine = visit.facts.machine if visit.facts else visit.host
        found += [(machine, finding) for finding in check_visit(master, visit, shared)]
        found += [(machine, finding) for finding in _check_people(visit, asked)]
    found += [(master.machine, finding) for finding in _check_all_people(master, visits, asked)]
    once = {
        (machine, finding.check, finding.severity, finding.what): finding
        for machine, finding in reversed(found)
    }
    return in_order(reversed(once.values()))


def _each_once(master: NodeFacts, visits: Sequence[Visit]) -> list[Visit]:
    """The nodes, each once, though it may be known by several names; that of this machine is known as such.

    Its agent tells which it is: the ids of a boot differ between services and people in some containers.
    """
    own = {each.facts.machine for each in visits if each.facts and _is_same_agent(master, each.facts)}
    found: list[Visit] = []
    for visit in visits:
        facts = visit.facts
        if facts and any(each.facts and _is_same_agent(each.facts, facts) for each in found):
            continue
        is_own = facts is not None and facts.machine in own
        found.append(_moved(visit, master.machine) if is_own else visit)
    return found


def _moved(visit: Visit, machine: str) -> Visit:
    return replace(visit, facts=visit.facts and replace(visit.facts, machine=machine))


def _is_same_agent(one: NodeFacts, other: NodeFacts) -> bool:
    return bool(one.instance_id) and one.instance_id == other.instance_id


def _check_people(visit: Visit, asked: Asked) -> Iterator[Finding]:
    """Whether a node is prepared for the people who use the cluster."""
    if visit.facts is not None:
        label = label_of(visit)
        users = {*asked.owners, *visit.facts.people.members}
        yield from people_checks.check_people(visit.facts, len(users), label)
        yield from people_checks.check_identity(visit.facts, asked.now_s, label)


def _check_all_people(master: NodeFacts, visits: Sequence[Visit], asked: Asked) -> Iterator[Finding]:
    """What concerns people, and no single node."""
    nodes = {label_of(visit): visit.facts for visit in visits if visit.facts is not None}
    if all(facts.machine != master.machine for facts in nodes.values()):
        nodes[master.node] = replace(master, people=PeopleFacts())  # rights of this command, not of an agent
    if len({facts.machine for facts in nodes.values()}) > 1:
        yield from people_checks.check_accounts(nodes, master.node)
    yield from people_checks.check_credentials(asked.credentials, asked.now_s, master.node)
    if asked.web is not None:
        yield from web_checks.check_web(asked.web, asked.now_s, master.node)


def _is_on(master: NodeFacts, visit: Visit) -> bool:
    if visit.facts:
        return visit.facts.machine == master.machine
    return visit.host in (master.node, "localhost") or is_loopback(visit.host)


def check_here(facts: NodeFacts, label: str) -> list[Finding]:
    """Findings from the facts of one machine."""
    return [*node_checks.check_node(facts, label), *network_checks.check_network(facts, label)]


def _check_master(
    master: NodeFacts, visits: Sequence[Visit], shared: SharedFolder, *, is_alone: bool
) -> Iterator[Finding]:
    yield from check_here(master, master.node)
    if shared.error:
        yield Finding(
            "shared_dir",
            Severity.BREAKS,
            master.node,
            f"shared_dir {shared.path} cannot be written to: {shared.error}",
            "drivers cannot write their datastores",
            f"mount or mend {shared.path}, for this user",
        )
    if is_alone:
        return
    if not master.shared_dir:
        yield fine("shared_dir", master.node, "not set: nodes get the files of calculations over the lanes")
    if master.is_embedded:
        hosts = ", ".join(visit.host for visit in visits if not is_loopback(visit.host))
        yield Finding(
            "settings",
            Severity.BREAKS,
            master.node,
            f"[dbserver] host is {LOOPBACK}, and host_cores names {hosts or 'other machines'}",
            "services listen on loopback only: no other machine reaches them",
            "set [dbserver] host to this machine's address in openquake.cfg on all nodes, restart",
        )


def check_visit(master: NodeFacts, visit: Visit, shared: SharedFolder) -> Iterator[Finding]:
    """Findings from one node's answer, by itself and compared with the master."""
    label = label_of(visit)
    yield from check_agent(visit, label)
    if visit.facts is None:
        return
    shares = bool(shared.nonce) and visit.facts.nonce == shared.nonce
    for finding in check_here(visit.facts, label):
        is_served = finding.check == "shared_dir" and finding.severity is Severity.BREAKS and not shares
        yield _served(label, finding.what) if is_served else finding
    yield check_versions(master.versions, visit.facts.versions, label)
    if visit.clock:
        yield check_clock(visit.clock, label)
    if shared.path and not shared.error:
        yield from check_shared_dir(visit.facts, shared, label)


def check_agent(visit: Visit, label: str) -> Iterator[Finding]:
    """Whether a node's agent could be asked."""
    yield network_checks.check_port(visit.port, label)
    if visit.error:
        breaks = network_checks.SERVICES["agent"][0]
        yield Finding("agent", Severity.BREAKS, label, visit.error, breaks, AGENT_REMEDY)


def label_of(visit: Visit) -> str:
    """How findings name a node: as `host_cores` does, but for this machine."""
    return visit.facts.node if visit.facts and visit.host == LOOPBACK else visit.host


def version_differences(ours: Versions, theirs: Versions) -> list[str]:
    """The differences of a node's versions from ours that matter to calculations, as sessions are told."""
    return differences(_fingerprint(ours), _fingerprint(theirs))


def _fingerprint(versions: Versions) -> Fingerprint:
    return {
        "Python": versions.python.rpartition(".")[0],
        "QuakeGrid": versions.quakegrid,
        "openquake.engine": versions.engine or NONE,
        "numpy": versions.numpy or NONE,
    }


def check_versions(ours: Versions, theirs: Versions, label: str) -> Finding:
    """Programs that exchange pickles must have the same versions."""
    differences = version_differences(ours, theirs)
    if not differences:
        return fine("versions", label, f"QuakeGrid {theirs.quakegrid}, engine {theirs.engine or 'none'}")
    return Finding(
        "versions",
        Severity.BREAKS,
        label,
        "; ".join(differences),
        "tasks cannot be read there or give other numbers, so calculations leave the node out",
        "install the same versions as on the master, then restart the agent",
    )


def check_clock(clock: Clock, label: str) -> Finding:
    """Certificates begin and end by the clock; logs are read by it."""
    what = (
        f"its clock is {abs(clock.offset_s):.3f} s {'ahead of' if clock.offset_s > 0 else 'behind'} ours "
        f"(round trip {1000 * clock.round_trip_s:.1f} ms)"
    )
    remedy = "keep both clocks by NTP (chrony, systemd-timesyncd; `timedatectl` shows it)"
    # Half of what certificates allow: they are made once and live for weeks, while a clock drifts on.
    if abs(clock.offset_s) > certificates.CLOCK_SKEW.total_seconds() / 2:
        breaks = "certificates are not valid yet, or no longer: no connection to the node is made"
        return Finding("clock", Severity.BREAKS, label, what, breaks, remedy)
    if abs(clock.offset_s) > CLOCK_TOLERANCE_S + clock.round_trip_s / 2:
        breaks = "log lines of this node and of others are out of order; times of files mislead"
        return Finding("clock", Severity.NOTE, label, what, breaks, remedy)
    return fine("clock", label, what)


def _served(label: str, what: str) -> Finding:
    """A node that does not share the master's folder works all the same."""
    return Finding(
        "shared_dir",
        Severity.NOTE,
        label,
        what,
        "the node gets the files of calculations over the lane, which takes some percent longer",
        "nothing needs to be done; a folder that is mounted at the same path saves the traffic",
    )


def check_shared_dir(facts: NodeFacts, shared: SharedFolder, label: str) -> Iterator[Finding]:
    """Whether the node sees the asking machine's file at the same path."""
    is_reported = any(disk.error and disk.path == shared.path for disk in facts.disks)
    if facts.nonce != shared.nonce:
        if not is_reported:
            what = f"{shared.path} is not the same folder there, or cannot be read"
            yield _served(label, what)
    elif facts.shared_dir != shared.path:
        yield Finding(
            "shared_dir",
            Severity.NOTE,
            label,
            f"[directory] shared_dir is {facts.shared_dir or 'not set'} there, {shared.path} on the master",
            "calculations that are started there keep their files elsewhere",
            "use the same openquake.cfg on all nodes",
        )
    else:
        yield fine("shared_dir", label, f"{shared.path} is the same there")
