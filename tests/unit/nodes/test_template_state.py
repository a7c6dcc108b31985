"""The template's state: what people read and programs compare."""

from __future__ import annotations

import pytest

from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent
from quakegrid.nodes.template_state import TemplateKind, TemplateState


@pytest.mark.parametrize(
    ("state", "text", "is_ready"),
    [
        (TemplateState(TemplateKind.LOADING), "loading", False),
        (TemplateState(TemplateKind.WARM), "warm", True),
        (TemplateState(TemplateKind.WARM, "without the engine: x"), "warm, without the engine: x", True),
        (TemplateState(TemplateKind.COLD, "x"), "cold: x", True),
        (TemplateState(TemplateKind.FAILED, "x"), "failed: x", False),
    ],
)
def test_state_reads_and_travels(state: TemplateState, text: str, is_ready: bool) -> None:
    """As text for people, as kind and reason for programs."""
    status = nodes_pb2.AgentStatus(
        template_kind=agent.TEMPLATE_KINDS[state.kind], template_reason=state.reason
    )

    assert str(state) == text
    assert state.is_ready is is_ready
    assert agent.template_state(status) == state


def test_state_that_nobody_told_is_not_ready() -> None:
    """An agent of another version."""
    assert not agent.template_state(nodes_pb2.AgentStatus()).is_ready
