"""Records of the audit log: what a call was about, who made it, and how often a peer was refused.

A person's calls that change something are records, and so are refused calls. A peer that is refused again and
again gets few records: `RefusalCounts` counts the others. Knows no connection, database or clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quakegrid.access.principals import PEOPLE, Principal, PrincipalRole

OK = "OK"
# What services and files may hold; names and tags of others may be anything.
LONGEST_TEXT = 200
# Records in which a service says that it lost some, since it could not hand them over in time.
LOST = "audit.lost"
# Failed calls of one peer that are records of their own in each window; the others are counted.
ROWS_PER_WINDOW = 10
WINDOW_S = 60.0
# Peers whose failed calls are counted each for itself; those of all others are counted together.
MOST_PEERS = 1000
_ANY_PEER = "several addresses"

# The engine's actions that people ask for, and whether the first argument of each is a job.
ENGINE_ACTIONS: Mapping[str, bool] = {
    "create_job": False,
    "import_job": False,
    "del_calc": True,
    "share_job": True,
    "keep": True,
    "delete_uncompleted_calculations": False,
    "create_tag": False,
    "delete_tag": False,
    "add_tag_to_job": True,
    "remove_tag_from_job": True,
    "set_preferred_job_for_tag": True,
    "unset_preferred_job_for_tag": False,
}
# The arguments that tell what a new job is: its calculation mode and description.
_NEW_JOB = slice(1, 3)
# Of nodes that one order names.
MOST_NAMES = 5
# How the engine's SQL begins that deletes jobs.
_DELETIONS = frozenset({"DELETE ", "delete "})
# What else a request may say, in the order in which it is told.
_DETAILS = ("core_count", "master", "force", "is_only", "way", "address", "label")
# The services whose `name` is a person's.
_ABOUT_PEOPLE = frozenset({"People", "WebLogins"})


@dataclass(frozen=True, slots=True)
class About:
    """What a call was about; empty or 0 where it was not about such a thing."""

    action: str
    job_id: int = 0
    node: str = ""
    person: str = ""
    detail: str = ""
    # The user for whom a service or command says that it asks.
    told: str = ""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that somebody did or tried; the fields are those of `api/v1/audit.proto`.

    `time_s` counts from 1970. The database gives `id` and `owner`.
    """

    time_s: float
    role: str
    name: str
    about: About
    outcome: str
    peer: str
    service: str
    count: int = 1
    id: int = 0
    owner: str = ""


def about_request(method: str, request: Any) -> About:
    """What a call was about, by the fields of its request that most requests have.

    Args:
        method: the full name of the call, such as "/quakegrid.api.v1.Jobs/DeleteJob".
        request: the message; an iterator of messages says nothing.
    """
    service, _, call = method.strip("/").partition("/")
    service = service.rpartition(".")[2]
    is_person = service in _ABOUT_PEOPLE
    name = _text(request, "name")
    details = [] if is_person else [name]
    details += [_role(request)] if is_person else []
    details += [f"{field} {value}" for field in _DETAILS if (value := _text(request, field))]
    return About(
        f"{service}.{call}",
        job_id=_number(request, "job_id"),
        node=_text(request, "host") or _names(request, "hosts"),
        person=name if is_person else "",
        detail=plain(", ".join(filter(None, details))),
        told=_text(request, "user_name"),
    )


def is_audited(action: str) -> bool:
    """Whether the audit log tells of an action of the engine: of those that people ask for, and of deletions.

    Args:
        action: its name, or SQL.
    """
    return action in ENGINE_ACTIONS or action[:7] in _DELETIONS


def about_action(action: str, args: list[Any], user_name: str) -> About:
    """What an action of the engine is about; a number that comes first is that of a job.

    Args:
        action: its name, or SQL.
        args: its arguments.
        user_name: who asks, as the request says.
    """
    job_id, rest = 0, args
    is_name = action.isidentifier()
    if ENGINE_ACTIONS.get(action, is_name) and args and str(args[0]).isdecimal():
        job_id, rest = int(args[0]), args[1:]
    rest = args[_NEW_JOB] if action == "create_job" else rest
    words = [str(value) for value in rest if isinstance(value, str | int | list)]
    name = action if is_name else "sql"
    words = words if is_name else [action, *words]
    return About(f"engine.{name}", job_id=job_id, detail=plain(", ".join(words)), told=plain(user_name))


def record_of(
    principal: Principal | None, about: About, outcome: str, *, time_s: float, peer: str, service: str
) -> AuditRecord:
    """The record of a call that has ended.

    Args:
        principal: who called; None if the certificate named nobody.
        about: what it was about. What it tells of a user counts only from a service.
        outcome: "OK" or the name of gRPC's status code.
        time_s: when it ended.
        peer: where it came from, as gRPC writes it.
        service: who was asked.
    """
    is_service = principal is not None and principal.role is PrincipalRole.SERVICE
    return AuditRecord(
        time_s,
        str(principal.role) if principal else "",
        principal.name if principal else "",
        about if is_service else replace(about, told=""),
        outcome,
        machine_of(peer),
        service,
    )


def lost(count: int, service: str, time_s: float) -> AuditRecord:
    """The record of so many records that a service has lost."""
    return AuditRecord(time_s, "service", "", About(LOST), OK, "", service, count)


def machine_of(peer: str) -> str:
    """The address in what gRPC calls a peer, such as "ipv4:10.0.0.7:51514" or "ipv6:%5B::1%5D:51514"."""
    kind, _, address = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return plain(peer)
    host = address.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")
    return plain(host.strip("[]"))


def plain(text: str) -> str:
    """A text as it can be stored and shown: one line of limited length, no control characters."""
    text = text[:LONGEST_TEXT]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _text(request: Any, field: str) -> str:
    """A field of a request as text; empty if the request has no such field, or its default in it."""
    value = getattr(request, field, None)
    return plain(str(value)) if value and isinstance(value, str | int) else ""


def _names(request: Any, field: str) -> str:
    """The first names of a list, with how many more there are; empty if the request has no such field."""
    names = list(getattr(request, field, ()))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return plain(", ".join(names[:MOST_NAMES]) + more)


def _role(request: Any) -> str:
    """The role that a credential is to have; the contract numbers the roles of people from 1."""
    number = _number(request, "role")
    return PEOPLE[number - 1].value if 0 < number <= len(PEOPLE) else ""


def _number(request: Any, field: str) -> int:
    value = getattr(request, field, 0)
    return value if isinstance(value, int) and abs(value) < 2**63 else 0


@dataclass(slots=True)
class _Window:
    """The failed calls of one peer in a window of time; after one with too many, none is written at once."""

    end_s: float
    row_count: int = 0
    held_count: int = 0
    last: AuditRecord | None = None


class RefusalCounts:
    """Keeps a peer that is refused again and again from filling the log.

    The first `ROWS_PER_WINDOW` failed calls of a peer in a window are records at once. Of the others the last
    one becomes a record when the window ends, with their number.
    """

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def take(self, record: AuditRecord, now_s: float) -> AuditRecord | None:
        """Count a failed call; returns it if it is to be written now."""
        peer = record.peer
        if peer not in self._windows and len(self._windows) >= MOST_PEERS:
            peer = _ANY_PEER
            record = replace(record, peer=peer)
        window = self._windows.setdefault(peer, _Window(now_s + WINDOW_S))
        if window.row_count < ROWS_PER_WINDOW:
            window.row_count += 1
            return record
        window.held_count += 1
        window.last = record
        return None

    def due(self, now_s: float) -> Iterator[AuditRecord]:
        """The records of windows that have ended; their peers begin new ones."""
        for peer, window in list(self._windows.items()):
            if window.end_s > now_s:
                continue
            if window.last is None:
                del self._windows[peer]
            else:
                yield replace(window.last, count=window.held_count)
                self._windows[peer] = _Window(now_s + WINDOW_S, ROWS_PER_WINDOW)

    def flush(self) -> Iterator[AuditRecord]:
        """All records that wait for the ends of their windows, as the process ends."""
        for window in self._windows.values():
            if window.last is not None:
                yield replace(window.last, count=window.held_count)
        self._windows.clear()

    def next_deadline_s(self) -> float | None:
        """When the next window ends; None if there is none."""
        return min((window.end_s for window in self._windows.values()), default=None)
