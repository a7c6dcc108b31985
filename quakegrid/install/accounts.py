"""The accounts of this machine: which there are, and which may not be services' and calculations' at once."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence

from quakegrid.errors import UsageError
from quakegrid.install.steps import MakeGroup, MakeUser, Step


def has_user(name: str) -> bool:
    """Whether this machine has a user of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def has_group(name: str) -> bool:
    """Whether this machine has a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def members(group: str) -> list[str]:
    """Who is in a group, beside those whose primary group it is."""
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []


def refuse_halves(steps: Sequence[Step]) -> None:
    """Refuse accounts of this machine that would give calculations what only services may have.

    Args:
        steps: of a plan.
    Raises:
        UsageError: with the command that helps.
    """
    users = [step.name for step in steps if isinstance(step, MakeUser)]
    for group in (step.name for step in steps if isinstance(step, MakeGroup)):
        for user in sorted({*users} & {*members(group)}):
            raise UsageError(
                f"{user} is a member of {group}, so whoever runs as {user} could start calculations as "
                f"itself; `gpasswd --delete {user} {group}`, then again"
            )
    numbers = {name: pwd.getpwnam(name).pw_uid for name in users if has_user(name)}
    if len({*numbers.values()}) < len(numbers) or 0 in numbers.values():
        shown = ", ".join(f"{name} is {number}" for name, number in numbers.items())
        raise UsageError(
            f"services and calculations need accounts with numbers of their own, and none is root ({shown})"
        )
