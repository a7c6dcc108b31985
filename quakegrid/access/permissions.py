"""The one table of permissions: every call of every service, what it does, and who may make it.

A call that is not in the table is for services only. Services, which hold the authkey, may make every call.
Decides by names and roles; knows no certificate, connection or message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from quakegrid.access.principals import PEOPLE, Principal, PrincipalRole

# A token is for one call.
_ALL_ROLES = frozenset(PrincipalRole) - {PrincipalRole.TOKEN}
_PEOPLE = frozenset(PEOPLE)
_STAFF = frozenset({PrincipalRole.OPERATOR, PrincipalRole.ADMIN})
_ADMINS = frozenset({PrincipalRole.ADMIN})
# Who sees jobs: all people see all jobs of their cluster, and so do the calculations that they run.
_READERS = _PEOPLE | {PrincipalRole.DRIVER}
_DRIVERS = frozenset({PrincipalRole.DRIVER})
_USERS = frozenset({PrincipalRole.USER})
_OWNERS = _USERS | _DRIVERS
_NODES = frozenset({PrincipalRole.NODE})
_TOKENS = frozenset({PrincipalRole.TOKEN})
_NOBODY: frozenset[PrincipalRole] = frozenset()


class Subject(Enum):
    """What a call is about, for those who may make it for what is their own."""

    # The job that `job_id` names.
    JOB = auto()
    # The node that `host` names.
    NODE = auto()
    # The node whose agent is called.
    AGENT = auto()


@dataclass(frozen=True, slots=True)
class Permission:
    """One row: who may make a call.

    Args:
        does: what the call does, as in "you may not ...".
        roles: who may do it, whatever it is about; services may in any case.
        own_roles: who may do it to what is their own.
        subject: what can be their own.
        is_audited: whether the audit log tells who did it. Refusals are told of every call.
    """

    does: str
    roles: frozenset[PrincipalRole] = _NOBODY
    own_roles: frozenset[PrincipalRole] = _NOBODY
    subject: Subject | None = None
    is_audited: bool = False


class Verdict(Enum):
    """What the table says of a principal and a call."""

    YES = auto()
    IF_OWN = auto()
    NO = auto()


_ALL_CALLS = "quakegrid"
_HEALTH = "grpc.health.v1.Health"
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

_BY_SERVICE: dict[str, dict[str, Permission]] = {
    "api.v1.Jobs": {
        # Its files would be looked for where the request says.
        "CreateJob": Permission("create jobs", _DRIVERS, is_audited=True),
        "GetJob": Permission("see jobs", _READERS),
        "ListJobs": Permission("list jobs", _READERS),
        "WatchJobs": Permission("watch jobs", _READERS),
        "TransitionJob": Permission("change the state of jobs", _NOBODY, _DRIVERS, Subject.JOB),
        "ReopenJob": Permission("resume jobs", _NOBODY, _DRIVERS, Subject.JOB, is_audited=True),
        "UpdateJob": Permission("change what is said of jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
        "DeleteJob": Permission("delete jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
        "ShareJob": Permission("share jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
        "UnshareJob": Permission("end the sharing of jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
    },
    "api.v1.Logs": {
        # A stream; the servicer refuses lines of jobs that are another person's.
        "AppendLog": Permission("write into the logs of jobs", _DRIVERS),
        "ListLog": Permission("read the logs of jobs", _READERS),
        "GetLogSize": Permission("read the logs of jobs", _READERS),
        "TailLog": Permission("follow the logs of jobs", _READERS),
        "GetTraceback": Permission("read the logs of jobs", _READERS),
    },
    "api.v1.Outputs": {
        "ListOutputs": Permission("list outputs", _READERS),
        "GetOutput": Permission("see outputs", _READERS),
        "RegisterOutputs": Permission("register outputs of jobs", _NOBODY, _DRIVERS, Subject.JOB),
    },
    "api.v1.Tags": {
        "ListTags": Permission("list tags", _READERS),
        "CreateTag": Permission("create tags", _READERS, is_audited=True),
        # It takes the tag from the jobs of everybody.
        "DeleteTag": Permission("delete tags", _STAFF, is_audited=True),
        "AddTag": Permission("tag jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
        "RemoveTag": Permission("take tags from jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
        "PreferJob": Permission("prefer jobs for a tag", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
    },
    "api.v1.People": {
        "WhoAmI": Permission("ask who they are", _ALL_ROLES - {PrincipalRole.WORKER}),
        "IssueCredential": Permission("issue credentials", _ADMINS, is_audited=True),
        "ListCredentials": Permission("list credentials", _ADMINS),
        "RevokeCredentials": Permission("revoke credentials", _ADMINS, is_audited=True),
        # Agents judge people by it.
        "WatchCredentials": Permission("watch which credentials count", _NODES),
        "RenewDriver": Permission("get a new certificate", _DRIVERS),
        # The servicer lets people make, see and revoke their own, and admins those of everybody.
        "CreateWebToken": Permission("make tokens for the web service", _PEOPLE, is_audited=True),
        "ListWebTokens": Permission("list tokens for the web service", _PEOPLE),
        "RevokeWebToken": Permission("revoke tokens for the web service", _PEOPLE, is_audited=True),
        "SetPassword": Permission("set passwords", _PEOPLE, is_audited=True),
    },
    "api.v1.NodeAccess": {
        "CreateToken": Permission("make tokens for nodes", _ADMINS, is_audited=True),
        "ListTokens": Permission("list tokens for nodes", _ADMINS),
        "RevokeToken": Permission("revoke tokens for nodes", _ADMINS, is_audited=True),
        "CertifyNode": Permission("have a machine certified as a node", _TOKENS, is_audited=True),
        "RenewNode": Permission("renew the certificate of a node", _NOBODY, _NODES, Subject.NODE),
        "CertifyDriver": Permission("have the calculations of people certified", _NODES),
        "ListNodes": Permission("list the certificates of nodes", _STAFF),
        "RevokeNode": Permission("revoke the certificate of a node", _ADMINS, is_audited=True),
    },
    "api.v1.Audit": {
        # Users see what concerns them; the dbserver chooses the records.
        "ListAudit": Permission("see the audit log", _PEOPLE),
        "WatchAudit": Permission("see the audit log", _PEOPLE),
    },
    "api.v1.Checksums": {
        "FindHazard": Permission("find hazard calculations", _READERS),
        "GetChecksum": Permission("see checksums of jobs", _READERS),
        "SetChecksum": Permission("set checksums of jobs", _NOBODY, _DRIVERS, Subject.JOB),
    },
    "api.v1.Database": {
        "GetDatabaseInfo": Permission("see the state of the database", _PEOPLE),
        "CheckDatabase": Permission("check the database", _STAFF),
        "VacuumDatabase": Permission("vacuum the database", _STAFF, is_audited=True),
        # A copy holds the hashes of passwords.
        "BackupDatabase": Permission("copy the database", _ADMINS, is_audited=True),
        "Query": Permission("query the database", _READERS),
    },
    "api.v1.Fleet": {
        "AbortJob": Permission("abort jobs", _STAFF, _OWNERS, Subject.JOB, is_audited=True),
        "EndSessions": Permission("end all that executes for a person", _ADMINS, is_audited=True),
        "GetStatus": Permission("see the status of the cluster", _READERS),
        "WatchStatus": Permission("watch the status of the cluster", _READERS),
        "GetMetrics": Permission("see the metrics of the cluster", _READERS),
        "WaitForNodes": Permission("wait for nodes", _READERS),
        "GetTaskRecords": Permission("see what became of tasks", _READERS),
        "ListEvents": Permission("see what happened to the cluster", _PEOPLE),
        "WatchEvents": Permission("watch what happens to the cluster", _PEOPLE),
        "SetNodeCores": Permission("set the cores of a node", _STAFF, is_audited=True),
        "ForgetNode": Permission("take nodes from the cluster", _STAFF, is_audited=True),
        "StartNodes": Permission("start nodes", _STAFF, is_audited=True),
        "StopNodes": Permission("stop nodes", _STAFF, is_audited=True),
        "RestartNodes": Permission("restart nodes", _STAFF, is_audited=True),
    },
    "api.v1.Nodes": {
        "GetStatus": Permission("see the status of a node", _PEOPLE, _NODES, Subject.AGENT),
        "SetCores": Permission("set the cores of a node", _STAFF, _NODES, Subject.AGENT, is_audited=True),
        "StartServing": Permission("start a node", _STAFF, _NODES, Subject.AGENT, is_audited=True),
        "StopServing": Permission("stop a node", _STAFF, _NODES, Subject.AGENT, is_audited=True),
        "RestartServing": Permission("restart a node", _STAFF, _NODES, Subject.AGENT, is_audited=True),
        "Join": Permission("let a node join a cluster", _STAFF, _NODES, Subject.AGENT, is_audited=True),
        "Leave": Permission("let a node leave its cluster", _STAFF, _NODES, Subject.AGENT, is_audited=True),
        "TailNodeLog": Permission("read the log of a node", _STAFF, _NODES, Subject.AGENT),
    },
    "internal.v1.Sessions": {
        # The broker refuses jobs that are another person's, and sessions without their token.
        "OpenSession": Permission("open sessions", _DRIVERS),
        "FlushSessionOutput": Permission("ask for the output of sessions", _DRIVERS),
        "TellStages": Permission("tell how far calculations are", _DRIVERS),
        "CloseSession": Permission("close sessions", _DRIVERS),
    },
    "internal.v1.Membership": {
        "JoinNode": Permission("join the cluster as a node", _NOBODY, _NODES, Subject.NODE),
        "LeaveNode": Permission("leave the cluster as a node", _NOBODY, _NODES, Subject.NODE),
    },
    "internal.v1.Orders": {
        "StartWorkers": Permission("start workers"),
        "StopWorkers": Permission("stop workers"),
        "StopDriver": Permission("stop drivers"),
        "GetProcess": Permission("look at processes of a node"),
        "Watch": Permission("watch a node", _STAFF, _NODES, Subject.AGENT),
        "FlushOutput": Permission("ask for the output of workers"),
    },
    "internal.v1.Holds": {
        "RenewHold": Permission("hold jobs", _NOBODY, _DRIVERS, Subject.JOB),
    },
    "internal.v1.Examination": {
        "Examine": Permission("examine a node", _STAFF, _NODES, Subject.AGENT),
    },
    "internal.v1.AuditRecords": {
        # The dbserver writes down which node sent them.
        "AppendAudit": Permission("write into the audit log", _NODES),
    },
    "internal.v1.WebLogins": {
        "CheckPassword": Permission("check passwords", is_audited=True),
        "OpenWebSession": Permission("open sessions of the web service", is_audited=True),
        "FindWebCaller": Permission("ask whose a token is"),
        "EndWebSession": Permission("end sessions of the web service", is_audited=True),
    },
    "internal.v1.EngineCalls": {
        # The servicer judges each action and SQL text: quakegrid/services/dbserver/engine/effects.py.
        # Each action is audited or not by its name.
        "Call": Permission("make calls of the engine", _DRIVERS, is_audited=True),
        "CallStream": Permission("make calls of the engine", _DRIVERS, is_audited=True),
    },
}
_OF_GRPC = {
    f"/{_HEALTH}/Check": Permission("ask whether a service is available", _ALL_ROLES),
    f"/{_HEALTH}/Watch": Permission("ask whether a service is available", _ALL_ROLES),
    f"/{_HEALTH}/List": Permission("ask whether a service is available", _ALL_ROLES),
    f"/{_REFLECTION}/ServerReflectionInfo": Permission("ask which calls there are", _ALL_ROLES),
}
# By the full name of the call, such as "/quakegrid.api.v1.Jobs/GetJob".
TABLE: dict[str, Permission] = _OF_GRPC | {
    f"/{_ALL_CALLS}.{service}/{name}": permission
    for service, rows in _BY_SERVICE.items()
    for name, permission in rows.items()
}
# Of a call that the table does not have.
_UNKNOWN = Permission("make this call")


def of(method: str) -> Permission:
    """The row of a call.

    Args:
        method: the full name of the call.
    """
    return TABLE.get(method, _UNKNOWN)


def judge(principal: Principal, permission: Permission) -> Verdict:
    """Whether a principal may make a call, as far as it does not depend on what it is about."""
    role = principal.role
    if role is PrincipalRole.SERVICE or role in permission.roles:
        return Verdict.YES
    return Verdict.IF_OWN if role in permission.own_roles else Verdict.NO


def owns(principal: Principal, subject: Subject, owner: str) -> bool:
    """Whether something is a principal's own.

    Args:
        principal: who asks; of a role that may do something to its own.
        subject: what kind of thing it is.
        owner: the person whose job it is, or the name of the node.
    """
    name = principal.person if subject is Subject.JOB else principal.name
    return bool(owner) and name == owner


def refusal(principal: Principal, permission: Permission, what: str = "", owner: str = "") -> str:
    """The words that tell a principal that it may not make a call.

    Args:
        principal: who asks.
        permission: the row of the call.
        what: what the request is about, such as "job 7"; empty if that does not matter.
        owner: the person whose it is; empty if it is no person's.
    """
    whose = f"{what} belongs to {owner}; " if owner else f"{what} is not yours; " if what else ""
    return f"{whose}you are {principal} and may not {permission.does}: that is for {_allowed(permission)}"


def _allowed(permission: Permission) -> str:
    """Who may make a call, in words; services only where nobody else may."""
    words = list(_words(permission)) or [_PLURALS[PrincipalRole.SERVICE]]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _words(permission: Permission) -> Iterator[str]:
    if permission.own_roles & _USERS:
        yield "the owner"
    elif permission.own_roles & _DRIVERS:
        yield "the calculation itself"
    if permission.own_roles & _NODES:
        yield "the node itself"
    for role in (
        *PEOPLE,
        PrincipalRole.DRIVER,
        PrincipalRole.NODE,
        PrincipalRole.WORKER,
        PrincipalRole.TOKEN,
    ):
        if role in permission.roles:
            yield _PLURALS[role]


_PLURALS = {
    PrincipalRole.SERVICE: "services of the cluster",
    PrincipalRole.NODE: "nodes",
    PrincipalRole.USER: "users",
    PrincipalRole.OPERATOR: "operators",
    PrincipalRole.ADMIN: "admins",
    PrincipalRole.DRIVER: "calculations",
    PrincipalRole.WORKER: "workers",
    PrincipalRole.TOKEN: "holders of a token",
}
