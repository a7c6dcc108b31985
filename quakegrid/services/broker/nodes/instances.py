"""Which agent process is behind each node that is up: one process may answer under two names. Pure."""

from __future__ import annotations

from collections.abc import Collection


class Instances:
    """Instance ids of agents by host, and hosts by instance id."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._hosts: dict[str, set[str]] = {}

    def host_of(self, instance_id: str) -> str | None:
        """A host with this agent, if there is one that is up."""
        return next(iter(self._hosts.get(instance_id, ())), None)

    def note(self, host: str, instance_id: str) -> Collection[str]:
        """Remember the agent of a host, "" for none; gives all hosts with this agent."""
        before = self._ids.get(host, "")
        if before != instance_id:
            if before:
                del self._ids[host]
                self._hosts[before].remove(host)
                if not self._hosts[before]:
                    del self._hosts[before]
            if instance_id:
                self._ids[host] = instance_id
                self._hosts.setdefault(instance_id, set()).add(host)
        return self._hosts.get(instance_id, ())
