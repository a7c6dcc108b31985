"""What `quakegrid oq` does not do: commands that would harm the cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from quakegrid import errors
from quakegrid.engine import attributes
from quakegrid.engine.driver import refusals


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["webui", "start"], "web"),
        (["webui", "start", "127.0.0.1:8800", "-s"], "web"),
        (["dbserver", "start"], "quakegrid status"),
        (["dbserver", "stop"], "quakegrid status"),
        (["dbserver", "upgrade"], "quakegrid status"),
    ],
)
def test_harmful_command_is_refused_in_words(argv: list[str], word: str) -> None:
    """With what to do instead."""
    assert word in refusals.refusal(argv, is_installed=False)


@pytest.mark.parametrize(
    "argv", [[], ["webui", "--help"], ["dbserver", "status"], ["engine", "--run", "webui"], ["info", "cfg"]]
)
def test_other_commands_are_run(argv: list[str]) -> None:
    """Also the help of those that are refused."""
    assert refusals.refusal(argv, is_installed=False) == ""


@pytest.mark.parametrize(
    ("argv", "is_refused"),
    [
        (["reset", "-y"], True),
        (["reset", "--help"], False),
        (["purge", "failed", "--force"], True),
        (["purge", "orphan", "-f"], True),
        (["purge", "-1"], True),
        (["purge", "12"], False),
    ],
)
def test_deletions_for_everybody_are_refused_on_an_installed_cluster(
    argv: list[str], is_refused: bool
) -> None:
    """All its people are one user, who may delete all; one's own cluster is one's own."""
    assert bool(refusals.refusal(argv, is_installed=True)) is is_refused
    assert refusals.refusal(argv, is_installed=False) == ""


def test_attribute_that_the_engine_does_not_have_is_not_replaced() -> None:
    """A renamed one would pass unseen, and ours would never be called."""
    engine = SimpleNamespace(__name__="engine", poll_queue=1)

    attributes.replace(engine, "poll_queue", 2)

    assert engine.poll_queue == 2
    with pytest.raises(errors.EngineMissingError, match=r"no engine\.poll_queu, which QuakeGrid replaces"):
        attributes.replace(engine, "poll_queu", 3)
