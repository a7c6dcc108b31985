"""What `doctor` and `workers debug` print, and how tasks' answers are summed up."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

import click
import pytest
from click.testing import CliRunner

from quakegrid.cli import doctor
from quakegrid.cli.workers import debug
from quakegrid.clients.broker import NodeStatus
from quakegrid.doctor import core_visits
from quakegrid.doctor.checks.cluster_checks import SharedFolder
from quakegrid.doctor.checks.findings import Finding, Severity, fine
from quakegrid.doctor.core_tasks import CoreAnswer, describe_core
from quakegrid.doctor.core_visits import CoreAnswers, NodeCores
from quakegrid.doctor.facts import Clock, Versions

FINDINGS = [
    Finding("port", Severity.BREAKS, "n1", "broker is shut", "no calculation is admitted", "open it"),
    Finding("swap", Severity.SLOWS, "n1", "swap is on", "it crawls", "swapoff"),
    fine("clock", "n1", "no offset"),
    fine("clock", "n2", "no offset"),
]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
VERSIONS = Versions("3.11.7", "0.1.0", "3.26.2", "2.2.6")
SHARED = SharedFolder("/shared", "nonce")


def printed(findings: Sequence[Finding], output: str, *, shows_all: bool = False) -> tuple[int, str]:
    """Exit code and output of a command that ends with findings."""

    @click.command()
    def command() -> None:
        doctor.finish(findings, output, shows_all=shows_all)

    done = CliRunner().invoke(command)
    return done.exit_code, done.stdout


def test_table_has_findings_with_remedies_then_how_many_are_fine() -> None:
    """Exit code 1 since something breaks."""
    code, text = printed(FINDINGS, "table")

    lines = text.splitlines()
    assert code == 1
    assert lines[0].split() == ["breaks", "n1", "port:", "broker", "is", "shut"]
    assert "open it" in lines[2]
    assert lines[-1] == "2 checks were fine"
    assert "no offset" not in text


def test_what_only_slows_has_exit_code_0() -> None:
    """A calculation would end well."""
    code, text = printed(FINDINGS[1:3], "table", shows_all=True)

    assert code == 0
    assert "no offset" in text
    assert text.splitlines()[-1] == "1 check was fine"


def test_json_has_all_findings() -> None:
    """Scripts see the fine ones, too."""
    code, text = printed(FINDINGS, "json")

    found = json.loads(text)
    assert code == 1
    assert found["would_break"] is True
    assert found["fine_count"] == 2
    assert [finding["severity"] for finding in found["findings"]] == ["breaks", "slows", "ok", "ok"]


def test_quiet_has_the_names_of_checks_that_found_something() -> None:
    """Once each."""
    assert printed([*FINDINGS, FINDINGS[0]], "quiet") == (1, "port\nswap\n")


def status(host: str, node: str, core_count: int, *, state: str = "warm", is_up: bool = True) -> NodeStatus:
    """A node as the broker tells it."""
    return NodeStatus(host, node, is_up, core_count, 0, 0, state)


def answer(node: str, pid: int, round_trip_s: float, nonce: str = "nonce") -> tuple[CoreAnswer, Clock]:
    """What a task on one core told."""
    return CoreAnswer(node, pid, (pid % 2,), VERSIONS, nonce, START, START), Clock(0.5, round_trip_s)


def test_answers_are_summed_up_by_node() -> None:
    """The clock is that of the shortest way; workers count once."""
    answers = CoreAnswers([answer("n1", 10, 0.3), answer("n1", 11, 0.1), answer("n1", 11, 0.2)])

    found = core_visits.sum_up([status("10.0.0.1", "n1", 2)], answers, SHARED, VERSIONS)

    assert found == [
        NodeCores(
            "10.0.0.1",
            "n1",
            2,
            reached_count=2,
            round_trip_s=0.1,
            clock_offset_s=0.5,
            sees_shared_dir=True,
            versions=VERSIONS,
        )
    ]


def test_what_is_wrong_with_a_node_is_said() -> None:
    """A core without an answer, another folder, other versions, a node that is down or mute."""
    nodes = [
        status("10.0.0.1", "n1", 2),
        status("10.0.0.2", "", 0, state="its agent does not answer", is_up=False),
        status("10.0.0.3", "n3", 1),
    ]
    answers = CoreAnswers([answer("n1", 10, 0.3, nonce="")])

    found = core_visits.sum_up(nodes, answers, SHARED, Versions("3.11.7", "0.2.0", "3.26.2", "2.2.6"))

    assert found[0].sees_shared_dir is False
    first, second, third = (node.trouble for node in found)
    assert first == (
        "no task ran on 1 of 2 cores",
        "QuakeGrid 0.1.0 there, 0.2.0 here",
    )
    assert second == ("its agent does not answer",)
    assert third == ("no task ran on 1 of 1 cores",)


def test_cores_that_other_sessions_have_are_not_blamed_on_the_node() -> None:
    """It may answer later."""
    (found,) = core_visits.sum_up([status("h", "n1", 1)], CoreAnswers(), SHARED, VERSIONS, is_busy=True)

    assert "other sessions" in found.trouble[0]


def test_without_a_shared_dir_nobody_is_asked_for_it() -> None:
    """It is neither seen nor missed."""
    answers = CoreAnswers([answer("n1", 10, 0.1, nonce="")])

    (found,) = core_visits.sum_up([status("h", "n1", 1)], answers, SharedFolder(), VERSIONS)

    assert found.sees_shared_dir is None
    assert found.trouble == ()


@pytest.mark.parametrize("output", ["table", "json", "quiet"])
def test_nodes_are_printed_with_and_without_answers(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A node that did not answer has dashes."""
    answered = NodeCores("10.0.0.1", "n1", 2, 2, 0.0021, -0.0004, True, VERSIONS)

    debug.print_nodes([answered, NodeCores("10.0.0.2", "10.0.0.2", 0)], [], output)

    text = capsys.readouterr().out
    if output == "json":
        assert json.loads(text)["nodes"][0]["versions"]["engine"] == "3.26.2"
    elif output == "table":
        assert "2 of 2" in text
        assert "2.10" in text
    else:
        assert text == "10.0.0.1\n10.0.0.2\n"


def test_echo_tells_of_its_own_process() -> None:
    """As a worker would."""
    found = describe_core("", "", 0.0)

    assert found.cores
    assert found.nonce == ""
    assert found.receive_time <= found.send_time
