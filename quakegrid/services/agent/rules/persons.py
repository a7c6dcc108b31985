"""As which account of this node the processes of a person run. Pure.

`decide` says it for a driver and for the workers of a session, `number_for` for a driver that a service asks
for in a person's name. The agent looks the accounts up, and the template changes to the account after the
fork.
"""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.errors import StateError

ROOT_ID = 0


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this node that a process can run as.

    Args:
        name: of the account.
        uid: its number; not 0.
        gid: number of its primary group.
        home: its home.
        groups: numbers of all its groups.
    """

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentRights:
    """What the agent of this node may do.

    Args:
        uid: number of its own account.
        is_able: whether it may change users.
        worker_user: `[agent] worker_user`, or the default name.
        worker: this account; None if the node does not have it.
    """

    uid: int
    is_able: bool
    worker_user: str
    worker: Account | None


def decide(person: str, account_id: int | None, found: Account | None, agent: AgentRights) -> Account | None:
    """As whom the processes of a person run.

    Args:
        person: name of the person; empty if there is none, such as for a program that holds the authkey.
        account_id: number of the person's account on the node of the driver; None if it is not known.
        found: the account of this name on this node.
        agent: of this node.
    Returns:
        The account; None for the agent's own.
    Raises:
        StateError: there is no account for them on this node.
    """
    if not agent.is_able or (agent.uid == ROOT_ID and account_id in (None, ROOT_ID)):
        return None
    if found is not None and found.uid == account_id and not _is_reserved(found, agent):
        return found
    if agent.worker is not None and not _is_reserved(agent.worker, agent):
        return agent.worker
    why, remedy = _why_none(person, account_id, found, agent), _remedy(agent)
    raise StateError(f"{why}; {remedy}")


def number_for(person: str, found: Account | None, group_id: int | None, agent: AgentRights) -> int | None:
    """Number of the account for a person in whose name a service asks, for `decide`.

    The service can tell any name, such as that of an account of the system. So only members of the group, who
    could ask themselves, get their own accounts. No answer leads to root or to the agent's account.

    Args:
        person: name that the service tells.
        found: the account of this name on this node.
        group_id: number of the group whose members may start calculations; None if there is none.
        agent: of this node.
    Returns:
        The number; None if the agent cannot change users, so that all runs as itself.
    Raises:
        StateError: there is no account for them on this node.
    """
    if not agent.is_able:
        return None
    if found is not None and group_id in found.groups and not _is_reserved(found, agent):
        return found.uid
    if agent.worker is not None and not _is_reserved(agent.worker, agent):
        return agent.worker.uid
    why = f"{person} has no account of this machine that may start calculations"
    raise StateError(f"{why}; {_remedy(agent)}")


def _is_reserved(account: Account, agent: AgentRights) -> bool:
    """Whether no calculation may have an account: root may do anything, the agent's may read the key."""
    return account.uid in (ROOT_ID, agent.uid)


def _why_none(person: str, account_id: int | None, found: Account | None, agent: AgentRights) -> str:
    """Why a person's own account cannot be taken, as a clause."""
    if account_id is None:
        whom = f"{person} is" if person else "what holds the authkey is"
        return f"{whom} no account of a node, so the account for all others has to run this"
    if account_id in (ROOT_ID, agent.uid):
        return f"calculations never run as {person}, which could read the authkey"
    if found is None:
        return f"this node has no account {person}"
    return f"the account {person} has the number {found.uid} here, and {account_id} where the driver runs"


def _remedy(agent: AgentRights) -> str:
    name = agent.worker_user
    if agent.worker is not None:
        return f"[agent] worker_user = {name} is root or the services' account: name another one"
    return f"as root of this node, make the account that [agent] worker_user names: `useradd --system {name}`"
