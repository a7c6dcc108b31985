"""Facts of people: who uses the cluster, their accounts on this machine, and how this machine proves itself.

A directory service may not answer, so `gathering.py` and `visits.py` look with a time-out.
"""

from __future__ import annotations

import contextlib
import datetime
import grp
import pwd
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.database_admin import DatabaseCare
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.doctor.facts import AccountFacts, CredentialFacts, PeopleFacts
from quakegrid.settings.config import Settings
from quakegrid.transport import certificates

MOST_NAMES = 500
# People whose last job is older do not count.
RECENT_DAYS = 90
DEFAULT_GROUP, DEFAULT_WORKER_USER = "quakegrid-users", "quakegrid-worker"
_OWNERS = (
    "SELECT DISTINCT user_name FROM job WHERE start_time > datetime('now', ?) ORDER BY user_name LIMIT ?"
)
_STATUS = Path("/proc/self/status")
_SETGID, _SETUID = 6, 7


def look_up(names: Iterable[str]) -> tuple[AccountFacts, ...]:
    """The accounts of these names on this machine."""
    return tuple(AccountFacts(name, _uid(name)) for name in list(names)[:MOST_NAMES])


def look_at_people(settings: Settings) -> PeopleFacts:
    """How this machine is prepared for people."""
    group, worker_user = DEFAULT_GROUP, DEFAULT_WORKER_USER
    members = _members(group)
    identity, end_s = _identity(settings)
    return PeopleFacts(
        is_known=True,
        group=group,
        has_group=members is not None,
        members=tuple(sorted(members or ()))[:MOST_NAMES],
        worker_user=worker_user,
        has_worker_user=_uid(worker_user) >= 0,
        changes_users=changes_users(_STATUS.read_text(encoding="ascii")),
        identity=identity,
        identity_end_s=end_s,
    )


def changes_users(status: str) -> bool:
    """Whether a process may become other users: by its capabilities, in `/proc/PID/status`."""
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    wanted = 1 << _SETGID | 1 << _SETUID
    return int(line.partition(":")[2], 16) & wanted == wanted


def find_owners(settings: Settings) -> tuple[str, ...]:
    """Whose jobs ran of late; nobody if the dbserver does not say it."""
    with closing(DbClient(settings)) as database, contextlib.suppress(errors.QuakeGridError):
        parameters = (f"-{RECENT_DAYS} days", MOST_NAMES)
        table, _ = DatabaseCare(database).query(_OWNERS, parameters, limit=MOST_NAMES)
        return tuple(str(name) for (name,) in table.rows)
    return ()


def find_credentials(settings: Settings) -> tuple[CredentialFacts, ...]:
    """When the last credential of each person ends; nobody if the dbserver does not say it."""
    with closing(DbClient(settings)) as database, contextlib.suppress(errors.QuakeGridError):
        return tuple(_last_ends(PeopleClient(database)))
    return ()


def _last_ends(people: PeopleClient) -> Iterator[CredentialFacts]:
    now_time = datetime.datetime.now(datetime.UTC)
    ends: dict[str, float] = {}
    for each in people.list_all():
        if each.state(now_time) == "valid":
            ends[each.name] = max(ends.get(each.name, 0.0), each.end_time.timestamp())
    return (CredentialFacts(name, end_s) for name, end_s in ends.items())


def _identity(settings: Settings) -> tuple[str, float]:
    given = settings.given.certified if settings.given is not None else None
    if settings.credential is not None:
        given = settings.credential.proof
    if settings.authkey or given is None:
        return "authkey", 0.0
    return "certificate", certificates.until_s(given.certificate_pem)


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # the latter for a name that no account can have
        return -1


def _members(group: str) -> set[str] | None:
    """Who is in a group by its list; None if there is no such group."""
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return None
    return set(found.gr_mem)
