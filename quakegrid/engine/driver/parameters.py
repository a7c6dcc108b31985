"""Which parameters of a job file a command line may override: those that the engine knows."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from quakegrid import errors


def check(names: Iterable[str], known: Collection[str], inputs: Collection[str] = ()) -> None:
    """Refuse a parameter that the engine would ignore.

    Args:
        names: of the parameters that a command line overrides.
        known: all that the engine reads.
        inputs: names of input files, which it reads only from a job file.
    Raises:
        UsageError: one is not known; with the name that is nearest to it.
    """
    for name in names:
        if name in known:
            continue
        if name.endswith("_file") or name in inputs:
            raise errors.UsageError(f"-p {name}: input files cannot be overridden; change the job file")
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise errors.UsageError(f"-p {name}: the engine has no such parameter{hint}")


def hints(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Sentences on names of a job file that the engine ignores, and that are nearly some that it reads.

    Args:
        names: in the file.
        known: all that the engine reads.
    """
    found = []
    for name in names:
        if name in known or name == "inputs":
            continue
        if near := difflib.get_close_matches(name, known, 1, 0.75):
            found.append(f"{name} has no effect; is {near[0]} meant?")
    return found


def known_to(parameters: type) -> set[str]:
    """Names that the engine's class of parameters reads, old ones too, but no inputs."""
    own = {name for name in dir(parameters) if hasattr(getattr(parameters, name), "validator")}
    return own | set(parameters.ALIASES)  # type: ignore[attr-defined]
