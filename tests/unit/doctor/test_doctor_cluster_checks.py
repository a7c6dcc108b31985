"""Checks between machines: facts in, findings out."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from quakegrid.doctor.checks import cluster_checks
from quakegrid.doctor.checks.cluster_checks import SharedFolder
from quakegrid.doctor.checks.findings import Finding, Severity
from quakegrid.doctor.facts import (
    AuthkeyFacts,
    Clock,
    DiskFacts,
    NodeFacts,
    PortFacts,
    PortState,
    Versions,
    Visit,
    clock_of,
)

VERSIONS = Versions("3.11.7", "0.1.0", "3.26.2", "2.2.6")
SHARED = SharedFolder("/shared", "nonce")
MASTER = NodeFacts(
    node="m",
    machine="boot m",
    versions=VERSIONS,
    memory_bytes=1 << 35,
    authkey=AuthkeyFacts(43, False, "abc", "abc"),
    shared_dir="/shared",
)
NODE = replace(MASTER, node="n1", machine="boot n1", core_count=4, nonce="nonce")
VISIT = Visit("10.0.0.1", PortFacts("agent", "10.0.0.1", 1909), NODE, Clock(0.001, 0.002))
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def wrong(master: NodeFacts, visits: list[Visit], shared: SharedFolder = SHARED) -> list[Finding]:
    """What is not fine."""
    found = cluster_checks.check_cluster(master, visits, shared)
    return [finding for finding in found if finding.severity is not Severity.OK]


def test_sound_cluster_has_nothing_but_fine_checks() -> None:
    """Two nodes and a master."""
    other = replace(VISIT, host="10.0.0.2", facts=replace(NODE, node="n2", machine="boot n2"))

    assert wrong(MASTER, [VISIT, other]) == []


def test_what_two_processes_on_one_machine_tell_alike_is_told_once() -> None:
    """The master that is a node, too."""
    swapping = replace(MASTER, swap_bytes=1 << 30)
    visit = Visit("127.0.0.1", VISIT.port, replace(swapping, core_count=4, nonce="nonce"), VISIT.clock)

    found = wrong(swapping, [visit])

    assert [(finding.check, finding.node) for finding in found] == [("swap", "m")]


@pytest.mark.parametrize(
    ("versions", "word"),
    [
        (replace(VERSIONS, python="3.12.1"), "Python 3.12 there, 3.11 here"),
        (replace(VERSIONS, quakegrid="0.2.0"), "QuakeGrid 0.2.0 there"),
        (replace(VERSIONS, engine="3.25.1"), "openquake.engine 3.25.1 there, 3.26.2 here"),
        (replace(VERSIONS, engine=""), "openquake.engine none there, 3.26.2 here"),
        (replace(VERSIONS, numpy="1.26.4"), "numpy 1.26.4 there"),
    ],
)
def test_versions_that_differ_break(versions: Versions, word: str) -> None:
    """Each is named with both sides."""
    (found,) = wrong(MASTER, [replace(VISIT, facts=replace(NODE, versions=versions))])

    assert (found.check, found.severity, found.node) == ("versions", Severity.BREAKS, "10.0.0.1")
    assert word in found.what


def test_patch_release_of_python_does_not_matter() -> None:
    """Pickles and bytecode are the same within a minor version."""
    assert cluster_checks.version_differences(VERSIONS, replace(VERSIONS, python="3.11.2")) == []


@pytest.mark.parametrize(
    ("offset_s", "severity", "word"),
    [
        (0.2, Severity.OK, "ahead of"),
        (-0.2, Severity.OK, "behind"),
        (-3.0, Severity.NOTE, "behind"),
        (86_400.0, Severity.BREAKS, "ahead of"),
    ],
)
def test_clock_is_judged_by_its_offset(offset_s: float, severity: Severity, word: str) -> None:
    """Seconds disorder logs, days invalidate certificates."""
    found = cluster_checks.check_clock(Clock(offset_s, 0.01), "n1")

    assert found.severity is severity
    assert word in found.what


def test_slow_answer_is_no_wrong_clock() -> None:
    """The offset is not known better than half the round trip."""
    assert cluster_checks.check_clock(Clock(1.5, 2.0), "n1").severity is Severity.OK


def test_clock_offset_is_measured_as_ntp_does() -> None:
    """Half the round trip each way, whatever the node's own work took."""
    second = datetime.timedelta(seconds=1)

    clock = clock_of(START, START + 11 * second, START + 15 * second, START + 6 * second)

    assert clock == Clock(offset_s=10.0, round_trip_s=2.0)


def test_shared_dir_that_is_another_folder_is_a_note() -> None:
    """The node did not read what the master wrote, so it is served."""
    (found,) = wrong(MASTER, [replace(VISIT, facts=replace(NODE, nonce=""))])

    assert (found.check, found.severity) == ("shared_dir", Severity.NOTE)
    assert "not the same folder" in found.what
    assert "over the lane" in found.breaks


def test_shared_dir_that_is_missing_is_told_once() -> None:
    """Its own disk check says why."""
    missing = DiskFacts("shared_dir", "/shared", error="No such file or directory")
    facts = replace(NODE, nonce="", disks=(missing,))

    (found,) = wrong(MASTER, [replace(VISIT, facts=facts)])

    assert (found.check, found.severity) == ("shared_dir", Severity.NOTE)
    assert "No such file or directory" in found.what


def test_shared_dir_of_another_name_is_a_note() -> None:
    """The node sees the master's folder, and would keep its own calculations elsewhere."""
    (found,) = wrong(MASTER, [replace(VISIT, facts=replace(NODE, shared_dir="/other"))])

    assert (found.check, found.severity) == ("shared_dir", Severity.NOTE)


def test_shared_dir_that_the_master_cannot_write_to_breaks() -> None:
    """Nodes are not blamed for it."""
    (found,) = wrong(
        MASTER, [replace(VISIT, facts=replace(NODE, nonce=""))], SharedFolder("/shared", "", "Read-only")
    )

    assert (found.check, found.node) == ("shared_dir", "m")
    assert "Read-only" in found.what


def test_full_shared_dir_breaks_also_where_it_is_seen() -> None:
    """It is the folder in which the master writes."""
    full = DiskFacts("shared_dir", "/shared", 1 << 40, 1 << 20)

    (found,) = wrong(MASTER, [replace(VISIT, facts=replace(NODE, disks=(full,)))])

    assert (found.check, found.severity) == ("shared_dir", Severity.BREAKS)


def test_several_machines_need_no_shared_dir() -> None:
    """Their files are served."""
    master, node = replace(MASTER, shared_dir=""), replace(NODE, shared_dir="", nonce="")

    found = cluster_checks.check_cluster(master, [replace(VISIT, facts=node)], SharedFolder())

    assert [each for each in found if each.severity is not Severity.OK] == []
    (told,) = (each for each in found if each.check == "shared_dir")
    assert "over the lanes" in told.what


@pytest.mark.parametrize("facts", [None, replace(MASTER, core_count=2, shared_dir="")])
def test_one_machine_needs_no_shared_dir(facts: NodeFacts | None) -> None:
    """Whether its agent answers or not."""
    visit = Visit("127.0.0.1", PortFacts("agent", "127.0.0.1", 1909), facts)

    found = wrong(replace(MASTER, shared_dir="", is_embedded=True), [visit], SharedFolder())

    assert found == []


def test_nodes_of_a_master_on_loopback_break() -> None:
    """They could never reach it."""
    (found,) = wrong(replace(MASTER, is_embedded=True), [VISIT])

    assert (found.check, found.severity) == ("settings", Severity.BREAKS)
    assert "10.0.0.1" in found.what


def test_agent_that_is_not_there_breaks_and_does_not_hide_others() -> None:
    """One finding for it, the checks of others go on."""
    port = PortFacts("agent", "10.0.0.9", 1909, PortState.SILENT)

    found = wrong(MASTER, [Visit("10.0.0.9", port), VISIT])

    assert [(finding.check, finding.node) for finding in found] == [("port", "10.0.0.9")]


def test_agent_that_answers_with_an_error_breaks() -> None:
    """Its words are the finding."""
    (found,) = wrong(MASTER, [replace(VISIT, facts=None, error="it is older")])

    assert (found.check, found.what) == ("agent", "it is older")


def test_node_with_two_names_is_told_of_once() -> None:
    """Its agent is one, whichever way it was reached; of the first name."""
    facts = replace(NODE, instance_id="a1", swap_bytes=1 << 30)
    clocks = (Clock(5.0, 0.01), Clock(5.1, 0.01))
    visits = [replace(VISIT, host=f"10.0.0.{n}", facts=facts, clock=clock) for n, clock in enumerate(clocks)]

    found = wrong(MASTER, visits)

    assert sorted((each.check, each.node) for each in found) == [("clock", "10.0.0.0"), ("swap", "10.0.0.0")]


def test_agents_that_do_not_say_which_they_are_are_as_many() -> None:
    """Older ones tell no id."""
    other = replace(VISIT, host="10.0.0.2", facts=replace(NODE, node="n2", machine="boot n2", swap_bytes=1))
    visits = [replace(VISIT, facts=replace(NODE, swap_bytes=1 << 30)), other]

    assert [each.node for each in wrong(MASTER, visits)] == ["10.0.0.1", "10.0.0.2"]


def test_agent_of_this_machine_is_here_whatever_its_boot_is_called() -> None:
    """In a container with systemd, services see another id of the boot than the person who asks."""
    swapping = replace(MASTER, swap_bytes=1 << 30, instance_id="a1", shared_dir="", is_embedded=True)
    agent = replace(swapping, machine="real-boot m", core_count=4)
    visit = Visit("10.0.0.9", VISIT.port, agent, VISIT.clock)

    found = wrong(swapping, [visit], SharedFolder())

    assert [(each.check, each.node) for each in found] == [("swap", "m")]
