"""What `status` and `workers status` say of nodes."""

from __future__ import annotations

import json

import pytest

from quakegrid.cli import status
from quakegrid.cli.views import render
from quakegrid.clients.broker import FleetStatus, LeftOut, NodeStatus, TaskTotals
from quakegrid.nodes.template_state import TemplateKind, TemplateState

LEFT_OUT = (
    LeftOut(100, (7, 8), ("numpy 1.26.4 there, 2.2.6 here",)),
    LeftOut(101, (), ("Python 3.12 there",)),
)
NODE = NodeStatus("10.0.0.3", "n3", True, 4, 0, 0, "warm", LEFT_OUT)
FLEET = FleetStatus((NODE,), (), (), TaskTotals(), "1")


def test_table_of_nodes_ends_with_who_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each session, and how the node differs."""
    status.print_nodes("table", FLEET)

    assert capsys.readouterr().out.splitlines()[-2:] == [
        "node n3 is left out of job 7, job 8: numpy 1.26.4 there, 2.2.6 here",
        "node n3 is left out of session 101: Python 3.12 there",
    ]


def test_json_of_nodes_has_it_with_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else on stdout."""
    status.print_nodes("json", FLEET)

    (node,) = json.loads(capsys.readouterr().out)
    assert node["left_out"][0] == {
        "session_id": 100,
        "job_ids": [7, 8],
        "differences": ["numpy 1.26.4 there, 2.2.6 here"],
    }


def test_json_of_a_template_state_has_kind_and_reason() -> None:
    """For scripts, which should not read prose."""
    state = TemplateState(TemplateKind.COLD, "no module named x")

    assert render.plain(state) == {"kind": "cold", "reason": "no module named x"}
