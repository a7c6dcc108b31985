"""Workers that agents report and that nobody wants any more: which ones to stop, and when to say so again.

Pure. An order to stop a worker may be lost with a connection, so no single order has to arrive: the workers
that an agent reports are compared with those that should be there. Knows hosts, workers and sessions by name;
counts seconds as it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from quakegrid.services.broker.fleet.events import StopWorkers

# An agent kills a worker 2 s after it was asked to stop it, and reports the end at once.
STOP_AGAIN_S = 5
# Drivers of an earlier broker come back to a new one within this time, and their workers are wanted again.
RESUME_GRACE_S = 10


@dataclass(slots=True)
class Leftovers:
    """The workers that agents last reported, and when those that nobody wants were ordered to stop.

    A worker that was once ordered to stop stays unwanted until its agent does not report it any more.
    """

    _now_s: int = 0
    _reported: dict[str, dict[str, int]] = field(default_factory=dict)  # host -> worker -> session
    _hosts_of: dict[int, dict[str, None]] = field(default_factory=dict)  # session -> hosts in `_reported`
    _told_s: dict[str, dict[str, int]] = field(default_factory=dict)  # host -> worker -> when; no empty ones

    def pass_second(self) -> None:
        """About a second went by."""
        self._now_s += 1

    def report(self, host: str, workers: Iterable[tuple[str, int]], *, is_first: bool) -> None:
        """Take in all workers of a node, with their sessions.

        Args:
            host: of the node.
            workers: that its agent has now.
            is_first: the agent was just reached: orders from before may have been lost.
        """
        reported = dict(workers)
        self._note(host, reported)
        told_s = self._told_s.pop(host, {})
        again_s = self._now_s - STOP_AGAIN_S
        still_s = {
            worker_id: again_s if is_first else at_s
            for worker_id, at_s in told_s.items()
            if worker_id in reported
        }
        if still_s:
            self._told_s[host] = still_s

    def forget(self, host: str) -> None:
        """Nothing is known of a node any more."""
        self._note(host, {})
        self._told_s.pop(host, None)

    def session_ids(self) -> set[int]:
        """The sessions that have workers somewhere."""
        return set(self._hosts_of)

    def workers_of(self, session_id: int) -> tuple[tuple[str, str], ...]:
        """Workers of a session and their hosts, without those that were ordered to stop."""
        return tuple(
            (worker_id, host)
            for host in self._hosts_of.get(session_id, ())
            for worker_id, owner_id in self._reported[host].items()
            if owner_id == session_id and not self.is_condemned(host, worker_id)
        )

    def is_condemned(self, host: str, worker_id: str) -> bool:
        """Whether a worker was ordered to stop."""
        return worker_id in self._told_s.get(host, ())

    def condemn(self, session_id: int) -> None:
        """All workers of a session are being ordered to stop, now for the first time."""
        for host in self._hosts_of.get(session_id, ()):
            workers = self._reported[host]
            mine = [worker_id for worker_id, owner_id in workers.items() if owner_id == session_id]
            self._told_s.setdefault(host, {}).update(dict.fromkeys(mine, self._now_s))

    def stop_all(self, host: str) -> Iterator[StopWorkers]:
        """Orders to stop all that a node reported."""
        yield from self._orders(host, list(self._reported.get(host, {})))

    def due(
        self, is_wanted: Callable[[int], bool], hosts: Sequence[str] | None = None
    ) -> Iterator[StopWorkers]:
        """Orders to stop unwanted workers that were not ordered to stop within the last seconds.

        Args:
            is_wanted: whether workers of a session should be there.
            hosts: where to look; None for everywhere.
        """
        for host in self._suspects(is_wanted) if hosts is None else hosts:
            told_s, reported = self._told_s.get(host, {}), self._reported.get(host, {})
            strange = {session_id for session_id in set(reported.values()) if not is_wanted(session_id)}
            if not told_s and not strange:
                continue
            names = [
                worker_id
                for worker_id, session_id in reported.items()
                if self._is_due(told_s, worker_id, is_strange=session_id in strange)
            ]
            if names:
                yield from self._orders(host, names)

    def _note(self, host: str, reported: dict[str, int]) -> None:
        """Keep what a node has, if it is news."""
        before = self._reported.get(host, {})
        if reported == before:
            return
        had, has = set(before.values()), set(reported.values())
        for session_id in had - has:
            hosts = self._hosts_of[session_id]
            del hosts[host]
            if not hosts:
                del self._hosts_of[session_id]
        for session_id in has - had:
            self._hosts_of.setdefault(session_id, {})[host] = None
        if reported:
            self._reported[host] = reported
        else:
            del self._reported[host]

    def _suspects(self, is_wanted: Callable[[int], bool]) -> list[str]:
        """Where an unwanted worker may be."""
        strange = [session_id for session_id in self._hosts_of if not is_wanted(session_id)]
        hosts = (host for session_id in strange for host in self._hosts_of[session_id])
        return list(dict.fromkeys((*self._told_s, *hosts)))

    def _is_due(self, told_s: Mapping[str, int], worker_id: str, *, is_strange: bool) -> bool:
        if worker_id in told_s:
            return told_s[worker_id] + STOP_AGAIN_S <= self._now_s
        return is_strange and self._now_s >= RESUME_GRACE_S

    def _orders(self, host: str, worker_ids: Sequence[str]) -> Iterator[StopWorkers]:
        """An order for each session, which is remembered as told."""
        by_session: dict[int, list[str]] = {}
        for worker_id in worker_ids:
            by_session.setdefault(self._reported[host][worker_id], []).append(worker_id)
        self._told_s.setdefault(host, {}).update(dict.fromkeys(worker_ids, self._now_s))
        for session_id, mine in by_session.items():
            yield StopWorkers(host, session_id, is_forced=True, worker_ids=tuple(mine))
