"""What a person may have meant who typed a command or a file that there is not. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# How alike two words must be; swapped letters in a short word make 0.67.
_ALIKE = 0.6
# Commands of other programs (docker, SLURM, nomad, the engine's own) by what does the same here.
ELSEWHERE: Mapping[str, str] = {
    "cancel": "abort",
    "delete": "jobs delete",
    "engine": "oq engine",
    "export": "jobs export",
    "info": "status",
    "kill": "abort",
    "list": "jobs list",
    "nodes": "workers status",
    "outputs": "jobs outputs",
    "ps": "jobs list",
    "queue": "jobs list",
    "rm": "jobs delete",
    "scancel": "abort",
    "show": "jobs show",
    "start": "up",
    "stop": "down",
    "submit": "run --detach",
    "tail": "jobs logs -f",
    "validate": "check",
    "version": "--version",
    "wait": "jobs wait",
    "webui": "web open",
}


def nearest(word: str, words: Iterable[str]) -> str:
    """The word that is most like another; empty if none is like it."""
    return next(iter(difflib.get_close_matches(word, sorted(words), 1, _ALIKE)), "")


def sentence(name: str, program: str, commands: Iterable[str]) -> str:
    """What is said of a command that there is not.

    Args:
        name: that was typed.
        program: the words before it.
        commands: those that there are.
    """
    meant = ELSEWHERE.get(name, "") or nearest(name, commands)
    hint = f"Did you mean `{program} {meant}`?" if meant else f"`{program} --help` lists all."
    return f"{program} has no command {name!r}. {hint}"
