"""The accounts of this node: looks up as whom the processes of a person run. Runs in the agent's event loop.

A directory service may be slow, so a thread asks it, and what it said holds for a minute.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import pwd
import time
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.services.agent.linux import user_rights
from quakegrid.services.agent.linux.user_rights import UserRights
from quakegrid.services.agent.node.persons.person_folders import PersonFolders
from quakegrid.services.agent.rules.persons import Account, AgentRights, decide, number_for
from quakegrid.settings.agent_accounts import DEFAULT_GROUP, DEFAULT_WORKER_USER, AgentAccounts

log = logging.getLogger("quakegrid.agent")
KNOWN_S = 60.0
MAX_KNOWN = 1000


class NodeAccounts:
    """The accounts that processes of this node run as.

    Args:
        names: the settings.
        state_dir: of the cluster on this machine.
    """

    def __init__(self, names: AgentAccounts, state_dir: Path) -> None:
        self._worker_user = names.worker_user or DEFAULT_WORKER_USER
        self._group = names.group or DEFAULT_GROUP
        self.is_able = user_rights.is_able()
        # Those who had processes here have a folder in shared memory, even if their agent was killed.
        left = shared_memory.owners(state_dir) if self.is_able else ()
        self.rights = UserRights(is_able=self.is_able, taken=left)
        self.folders = PersonFolders(state_dir, self.rights)
        self._known: dict[str, tuple[float, Account | None]] = {}

    @property
    def group_id(self) -> int | None:
        """Number of the group whose members may ask for drivers; None if only the agent's own user may."""
        if not self.is_able:  # all would run as the agent
            return None
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError:
            return None

    async def account_of(self, person: str, account_id: int | None) -> Account | None:
        """As whom the processes of a person run; None for the agent's own account.

        Args:
            person: name of the person; empty if there is none.
            account_id: number of the person's account on the node of the driver; None if it is not known.
        Raises:
            StateError: there is no account for them on this node.
        """
        if not self.is_able:
            return None
        found = await self._find(person) if person else None
        account = decide(person, account_id, found, await self._own_rights())
        if account is not None:
            self.rights.add(account.uid)
            self._open_folder(account)
        return account

    async def number_for(self, person: str) -> int | None:
        """Number of the account for a person in whose name a service asks; None for the agent's own account.

        Raises:
            StateError: there is no account for them on this node.
        """
        found = await self._find(person) if self.is_able else None
        return number_for(person, found, self.group_id, await self._own_rights())

    async def _own_rights(self) -> AgentRights:
        worker = await self._find(self._worker_user) if self.is_able else None
        return AgentRights(os.geteuid(), self.is_able, self._worker_user, worker)

    def _open_folder(self, account: Account) -> None:
        """Make the account's folder. Without one temporary files stay, and blobs travel with each task."""
        try:
            self.folders.open(account)
        except OSError as exc:
            log.warning("no_folder_of_account account=%s reason=%s", account.name, exc)

    async def _find(self, name: str) -> Account | None:
        """The account of a name, if this node has one."""
        now_s = time.monotonic()
        until_s, account = self._known.get(name, (0.0, None))
        if now_s < until_s:
            return account
        account = await asyncio.to_thread(_look_up, name)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[name] = (now_s + KNOWN_S, account)
        return account


def _look_up(name: str) -> Account | None:
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):  # the latter for a name that no account can have
        return None
    groups = tuple(sorted({*os.getgrouplist(name, found.pw_gid), found.pw_gid}))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir, groups)
