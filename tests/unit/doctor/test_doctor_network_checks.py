"""Checks of host names and ports: facts in, findings out."""

from __future__ import annotations

import pytest

from quakegrid.doctor.checks import network_checks
from quakegrid.doctor.checks.findings import Severity
from quakegrid.doctor.facts import NameFacts, NodeFacts, PortFacts, PortState


@pytest.mark.parametrize(
    ("name", "is_embedded", "severity"),
    [
        (NameFacts("n1", "", ("10.0.0.1",)), False, Severity.OK),
        (NameFacts("n1", "", ("127.0.1.1",)), False, Severity.NOTE),
        (NameFacts("n1", "", ("127.0.1.1",)), True, Severity.OK),
        (NameFacts("master", "[dbserver] host", ("127.0.1.1",)), False, Severity.BREAKS),
        (NameFacts("master", "[dbserver] host", ("10.0.0.1", "::1")), False, Severity.BREAKS),
        (NameFacts("localhost", "[zworkers] host_cores", ("127.0.0.1", "::1")), False, Severity.OK),
        (NameFacts("127.0.0.1", "[zworkers] host_cores", ("127.0.0.1",)), False, Severity.OK),
        (NameFacts("nowhere", "[dbserver] host"), False, Severity.BREAKS),
        (NameFacts("n1", ""), False, Severity.NOTE),
    ],
)
def test_name_that_means_loopback_is_found_where_it_is_used(
    name: NameFacts, is_embedded: bool, severity: Severity
) -> None:
    """Debian's 127.0.1.1 breaks a cluster that uses the name, and nobody else."""
    found = network_checks.check_name(name, "n1", is_embedded=is_embedded)

    assert found.check == "host_name"
    assert found.severity is severity
    assert name.name in found.what
    assert severity is Severity.OK or found.remedy


@pytest.mark.parametrize(
    ("state", "check", "word"),
    [
        (PortState.REFUSED, "port", "nothing listens"),
        (PortState.SILENT, "port", "firewall"),
        (PortState.UNRESOLVED, "port", "unknown host name"),
        (PortState.OTHER_KEY, "authkey", "another authkey"),
        (PortState.OTHER_CLOCK, "clock", "clocks are days apart"),
        (PortState.FOREIGN, "port", "another program"),
        (PortState.UNSPECIFIED, "port", "does not answer"),
    ],
)
@pytest.mark.parametrize("service", ["dbserver", "broker", "agent", "lane"])
def test_port_that_does_not_serve_breaks(state: PortState, check: str, word: str, service: str) -> None:
    """Each way of not serving has its own words."""
    found = network_checks.check_port(PortFacts(service, "10.0.0.1", 1908, state), "n1")

    assert found.severity is Severity.BREAKS
    assert found.check == check
    assert "10.0.0.1:1908" in found.what
    assert word in found.what
    assert found.breaks
    assert found.remedy


def test_lanes_that_are_not_open_may_refuse_and_not_be_silent() -> None:
    """Refusing means that no firewall is between."""
    ports = [
        PortFacts("lane", "m", 1912),
        PortFacts("lane", "m", 1913, PortState.REFUSED, is_expected=False),
        PortFacts("lane", "m", 1914, PortState.REFUSED, is_expected=False),
        PortFacts("lane", "m", 1915, PortState.SILENT, is_expected=False),
        PortFacts("lane", "m", 1916, PortState.REFUSED),
    ]

    found = list(network_checks.check_ports(ports, "n1"))

    severities = [finding.severity for finding in found]
    assert severities == [Severity.OK, Severity.OK, Severity.BREAKS, Severity.BREAKS]
    assert "1913, 1914" in found[1].what


def test_network_is_names_and_ports() -> None:
    """Both count."""
    facts = NodeFacts(names=(NameFacts("n1", "", ("10.0.0.1",)),), ports=(PortFacts("broker", "m", 1911),))

    assert [finding.check for finding in network_checks.check_network(facts, "n1")] == ["host_name", "port"]
