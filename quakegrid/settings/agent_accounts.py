"""Which accounts of a machine have to do with its agent: the settings, what is allowed, and their names.

Whether such an account or group exists is looked up by the agent, on its own machine.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

DEFAULT_GROUP = "quakegrid-users"
DEFAULT_WORKER_USER = "quakegrid-worker"
# What Linux and directory services have; no colon, no slash, no white space.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._@-]{0,255}\$?", re.ASCII)


def account_name(uid: int) -> str | None:
    """The name of the account with a number; None if this machine has none, as in a container."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class AgentAccounts:
    """Names of accounts; an empty one means the default name, if this machine has it.

    Args:
        group: its members may submit calculations on this machine.
        worker_user: runs what belongs to a person without an account on this machine.
    """

    group: str = ""
    worker_user: str = ""


class ParseName(Protocol):
    """Reads one value and converts it."""

    def __call__(
        self, section: str, key: str, default: str, convert: Callable[[str], str], allowed: str
    ) -> str:
        """The value or the default. The error for a wrong value names what is `allowed`."""


def read_agent_accounts(parse: ParseName) -> AgentAccounts:
    """Read the accounts of this node."""
    return AgentAccounts(
        group=parse("agent", "group", "", _name, "the name of a group of this machine"),
        worker_user=parse("agent", "worker_user", "", _name, "the name of an account of this machine"),
    )


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(text)
    return text
