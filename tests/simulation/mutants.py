"""Puts bugs into the code in memory, and looks for the seed that finds each.

A mutant replaces a piece of a function's source. One whose piece is no longer there fails loudly: the code
has moved on, and the mutant has to follow it. A seed finds a mutant if it breaks a promise with the mutant
and none without it.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import multiprocessing
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation import runs, scenarios
from tests.simulation.bugs import MUTANTS, Edit, Mutant


class MutantGoneError(AssertionError):
    """The code that a mutant changes is not there any more."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """How the search for a mutant went.

    Args:
        mutant: its name.
        is_found: whether a seed found it.
        seed_count: how many seeds were looked at, the last of them found it.
        violation: of that seed with the mutant; without the mutant the seed breaks no promise.
        failing: seeds before it that break a promise without the mutant, too, so that they say nothing of it.
    """

    mutant: str
    is_found: bool
    seed_count: int
    violation: str
    failing: tuple[int, ...]


def changed(edit: Edit) -> tuple[Any, str, Any, Any]:
    """What an edit changes: owner, name, what is there, and what takes its place.

    Raises:
        MutantGoneError: the piece is not there exactly once.
    """
    module_name, _, path = edit.where.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part, None)
    before = inspect.getattr_static(owner, name, None)
    if before is None:
        raise MutantGoneError(f"{edit.where} is not there any more")
    function = before.fget if isinstance(before, property) else inspect.unwrap(before)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(edit.old) != 1:
        raise MutantGoneError(f"{edit.where} has {source.count(edit.old)} times {edit.old!r}")
    flags = __future__.annotations.compiler_flag
    code = compile(source.replace(edit.old, edit.new), f"<{edit.where}, a mutant>", "exec", flags)
    space: dict[str, Any] = {}
    exec(code, module.__dict__, space)
    return owner, name, before, space[name]


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Let the code have a bug."""
    changes = [changed(edit) for edit in mutant.edits]
    for owner, name, _, after in changes:
        setattr(owner, name, after)
    try:
        yield
    finally:
        for owner, name, before, _ in changes:
            setattr(owner, name, before)


def named(name: str) -> Mutant:
    """The mutant of a name; raises KeyError if there is none."""
    return {each.name: each for each in MUTANTS}[name]


def hunt(name: str, seed_count: int) -> Hunt:
    """Run seeds until one finds the mutant."""
    mutant, failing = named(name), []
    for seed in range(1, seed_count + 1):
        if mutant.needs and not mutant.needs & scenarios.drawn_kinds(scenarios.draw(seed)):
            continue
        with applied(mutant):
            violation = runs.run_seed(seed).violation
        if not violation:
            continue
        if runs.run_seed(seed).violation:
            failing.append(seed)
            continue
        return Hunt(name, True, seed, violation, tuple(failing))
    return Hunt(name, False, seed_count, "", tuple(failing))


def _hunt(args: tuple[str, int]) -> Hunt:
    return hunt(*args)


def hunt_all(seed_count: int, process_count: int, names: Sequence[str] = ()) -> Iterator[Hunt]:
    """Hunt mutants side by side, all if none are named; gives each as soon as its search has ended."""
    wanted = [(each.name, seed_count) for each in (map(named, names) if names else MUTANTS)]
    context: Any = multiprocessing.get_context("spawn")
    with context.Pool(min(process_count, len(wanted))) as pool:
        yield from pool.imap_unordered(_hunt, wanted)
