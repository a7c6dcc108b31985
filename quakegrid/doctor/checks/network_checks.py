"""Checks whether one machine reaches others: host names and ports. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quakegrid.doctor.checks.findings import Finding, Severity, fine
from quakegrid.doctor.facts import NameFacts, NodeFacts, PortFacts, PortState
from quakegrid.settings.hosts import is_loopback

# Each service: what it is needed for, and the setting of its port.
SERVICES = {
    "dbserver": ("jobs, logs and outputs cannot be stored, so no calculation starts", "[dbserver] port"),
    "broker": ("no calculation is admitted", "[broker] port"),
    "lane": ("workers get no tasks, and their results reach nobody", "[dbserver] receiver_ports"),
    "agent": ("no calculation gets the node's cores", "[zworkers] ctrl_port"),
}


def check_network(facts: NodeFacts, label: str) -> list[Finding]:
    """Findings on a machine's connections to the others."""
    findings = [check_name(name, label, is_embedded=facts.is_embedded) for name in facts.names]
    return [*findings, *check_ports(facts.ports, label)]


def check_name(name: NameFacts, label: str, *, is_embedded: bool) -> Finding:
    """A name that means loopback on one machine means itself on every other."""
    used = f", which {name.setting} uses," if name.setting else ", this machine's own,"
    if not name.addresses:
        severity = Severity.BREAKS if name.setting else Severity.NOTE
        return Finding(
            "host_name",
            severity,
            label,
            f"the name {name.name}{used} is unknown here",
            "whatever is addressed by this name cannot be reached from here",
            "add it to DNS or to /etc/hosts, or use an address in openquake.cfg",
        )
    loopback = [address for address in name.addresses if is_loopback(address)]
    if not loopback or is_embedded or is_loopback(name.name):
        return fine("host_name", label, f"{name.name} is {', '.join(name.addresses)}")
    if name.setting:
        breaks = "services listen, or are looked for, where no other machine reaches them"
    else:
        breaks = "nothing as long as openquake.cfg does not use the name; other programs tell it to others"
    return Finding(
        "host_name",
        Severity.BREAKS if name.setting else Severity.NOTE,
        label,
        f"the name {name.name}{used} is {loopback[0]} here, a loopback address",
        breaks,
        f"give {name.name} its real address in /etc/hosts instead of {loopback[0]}, "
        "or use the address in openquake.cfg",
    )


def check_ports(ports: Iterable[PortFacts], label: str) -> Iterator[Finding]:
    """One finding for all ports of a service that are in the same state."""
    groups: dict[tuple[str, str, PortState, bool], list[PortFacts]] = {}
    for port in ports:
        groups.setdefault((port.service, port.host, port.state, port.is_expected), []).append(port)
    for group in groups.values():
        yield _check_group(group, label)


def check_port(port: PortFacts, label: str) -> Finding:
    """Whether a service answers at its port, and holds our authkey."""
    return _check_group([port], label)


def _check_group(group: list[PortFacts], label: str) -> Finding:
    port = group[0]
    numbers = ", ".join(str(item.number) for item in group)
    where = f"{port.service} {port.host}:{numbers}"
    if port.state is PortState.OPEN:
        return fine("port", label, f"{where} is open")
    if port.state is PortState.REFUSED and not port.is_expected:
        return fine("port", label, f"{where} can be reached; no lane is open there now")
    breaks, setting = SERVICES[port.service]
    what, remedy = _trouble(port, setting)
    check = {PortState.OTHER_KEY: "authkey", PortState.OTHER_CLOCK: "clock"}.get(port.state, "port")
    return Finding(check, Severity.BREAKS, label, f"{where} {what}", breaks, remedy)


def _trouble(port: PortFacts, setting: str) -> tuple[str, str]:
    """What is wrong with a port, and how to fix it."""
    match port.state:
        case PortState.REFUSED:
            starts = {
                "agent": f"start it by `agentctl serve` on {port.host}",
                "lane": "`quakegrid status` tells what became of the lane",
            }
            start = starts.get(port.service, f"start it by `quakegrid up` or its unit on {port.host}")
            what, remedy = "refuses: nothing listens there", f"{start}; see {setting} in openquake.cfg"
        case PortState.UNRESOLVED:
            what, remedy = "has an unknown host name", "add the name to DNS or to /etc/hosts"
        case PortState.OTHER_KEY:
            what = "has another authkey than this machine"
            remedy = (
                "copy [dbserver] authkey of the master's openquake.cfg to every node and restart its "
                "services; `agentctl doctor --all` shows each node's fingerprint"
            )
        case PortState.OTHER_CLOCK:
            what = "has a certificate that is not valid by this machine's clock: the clocks are days apart"
            remedy = "set both clocks (chrony, systemd-timesyncd), then restart the service"
        case PortState.FOREIGN:
            what = "is answered by another program"
            remedy = f"end that program, or change {setting} in openquake.cfg on all nodes"
        case _:
            what = "does not answer: a firewall drops it, the host is down, or the service hangs"
            remedy = (
                f"see that {port.host} is up, and let the port through in the firewalls on both sides "
                f"({setting} in openquake.cfg chooses it)"
            )
    return what, remedy
