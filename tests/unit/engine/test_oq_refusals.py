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


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "wait", "kill", "debug"])
def test_control_of_workers_that_the_engine_refuses_says_what_does_it(verb: str) -> None:
    """The engine's own words do not help: that it works in single user mode only."""
    told = refusals.refusal(["workers", verb], is_installed=False, may_control=False)

    assert f"`quakegrid workers {verb}` does the same" in told
    assert refusals.refusal(["workers", verb], is_installed=False, may_control=True) == ""


@pytest.mark.parametrize(
    "argv", [["workers"], ["workers", "status"], ["workers", "--help"], ["workers", "x"]]
)
def test_what_the_engine_does_not_refuse_is_run(argv: list[str]) -> None:
    """Also what it does not know, of which it says what there is."""
    assert refusals.refusal(argv, is_installed=False, may_control=False) == ""


def test_attribute_that_the_engine_does_not_have_is_not_replaced() -> None:
    """A renamed one would pass unseen, and ours would never be called."""
    engine = SimpleNamespace(__name__="engine", poll_queue=1)

    attributes.replace(engine, "poll_queue", 2)

    assert engine.poll_queue == 2
    with pytest.raises(errors.EngineMissingError, match=r"no engine\.poll_queu, which QuakeGrid replaces"):
        attributes.replace(engine, "poll_queu", 3)
