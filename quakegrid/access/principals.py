"""Principals: who calls a service, as the certificate of the connection says.

A certificate names its principal by one URI of the form of SPIFFE, among its subject alternative names:

    spiffe://<cluster>.quakegrid.internal/<role>/<name>/<id of the credential>
    spiffe://<cluster>.quakegrid.internal/driver/<name>/<number of the account>/<id of the credential>

The cluster's services share the authkey and sign their own certificates; these have the name `PEER_NAME`, by
which clients know a service. Reads names only: whether a certificate is genuine, TLS has checked before.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

DOMAIN = "quakegrid.internal"
# Clients take a peer for a service of the cluster if its certificate has this name.
PEER_NAME = f"peer.{DOMAIN}"
# Clients take a peer for the agent of a node if its certificate has the node's name below this one, or this.
_NODES = f"node.{DOMAIN}"
ANY_NODE_NAME = f"*.{_NODES}"
LONGEST_NAME = 64
_SCHEME = "spiffe://"
# What SPIFFE allows in a path, without names that begin like an option or a hidden file.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PATH = re.compile(
    rf"{_SCHEME}([a-z0-9.-]+)/([a-z]+)/({_NAME.pattern})(?:/(0|[1-9][0-9]{{0,9}}))?/([0-9a-f]{{32}})"
)
# A label of a host's name that no other name can be written as: see `node_dns_name`.
_PLAIN_LABEL = re.compile(r"(?!x--)[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
ALLOWED_NAMES = f"letters, digits, '.', '_' and '-', at most {LONGEST_NAME}; the first is no '.' or '-'"


class PrincipalRole(StrEnum):
    """What a principal is."""

    # A process that holds the authkey: it may call everything.
    SERVICE = "service"
    # The agent of one machine.
    NODE = "node"
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"
    # The process that runs a calculation of a person.
    DRIVER = "driver"
    # A process that runs the tasks of one session.
    WORKER = "worker"
    # Whoever has a token for new nodes: it may have a machine certified as a node.
    TOKEN = "token"  # noqa: S105  the word


# The roles that a person may have, from the least to the most.
PEOPLE = (PrincipalRole.USER, PrincipalRole.OPERATOR, PrincipalRole.ADMIN)
_STAFF = frozenset({PrincipalRole.OPERATOR, PrincipalRole.ADMIN})
_ACTS_FOR_A_PERSON = frozenset({*PEOPLE, PrincipalRole.DRIVER})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Args:
        role: what it is.
        name: of the person, of the person whose driver it is, of the node, of the worker's session, or of the
            one node that a token is for; empty for a service.
        credential_id: of its certificate, 32 hexadecimal digits; empty for a service.
        until_s: when the certificate ends, in seconds since 1970.
        account_id: of a driver, the number of the person's account on the node that started it; None if it is
            not the account of a node.
    """

    role: PrincipalRole
    name: str = ""
    credential_id: str = ""
    until_s: float = math.inf
    account_id: int | None = None

    @property
    def person(self) -> str:
        """For whom it acts; empty if for nobody."""
        return self.name if self.role in _ACTS_FOR_A_PERSON else ""

    @property
    def is_staff(self) -> bool:
        """Whether it may do to the jobs of others what their owners may."""
        return self.role in _STAFF

    def asker(self, told: str) -> str:
        """The user's name that counts for a request.

        Args:
            told: the name in the request. A service is believed, and nobody else.
        """
        return told if self.role is PrincipalRole.SERVICE else self.person

    def __str__(self) -> str:
        """For people, as in "you are ..."."""
        match self.role:
            case PrincipalRole.SERVICE:
                return "a service of the cluster"
            case PrincipalRole.NODE:
                return f"the node {self.name}"
            case PrincipalRole.DRIVER:
                return f"a calculation of {self.name}"
            case PrincipalRole.WORKER:
                return f"a worker of session {self.name}"
            case PrincipalRole.TOKEN:
                return "the holder of a token for nodes"
            case _:
                return f"{self.name} ({self.role})"


SERVICE = Principal(PrincipalRole.SERVICE)


def is_name(text: str) -> bool:
    """Whether a certificate can carry this name; see `ALLOWED_NAMES`."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None


# The id of a driver that a node has had certified begins with so many digits of the node's own.
NODE_PART = 16


def certified_by(driver: Principal) -> str:
    """How the id of the node begins that has had a driver certified; no node's if an agent has signed."""
    return driver.credential_id[:NODE_PART]


def node_dns_name(host: str) -> str:
    """The name of a host that only the certificate of its agent has, and those of services.

    No two hosts have the same one. Upper and lower case are one host.
    """
    host = host.lower()
    if _PLAIN_LABEL.fullmatch(host):
        return f"{host}.{_NODES}"
    digest = base64.b32encode(hashlib.sha256(host.encode(errors="replace")).digest()).decode()
    return f"x--{digest.rstrip('=').lower()}.{_NODES}"


def to_uri(principal: Principal, cluster: str) -> str:
    """The name of a principal in its certificate.

    Args:
        principal: of any role but service.
        cluster: tells clusters apart for people who read the certificate: lower-case letters and digits.
    Raises:
        ValueError: a certificate cannot carry it.
    """
    account = "" if principal.account_id is None else f"/{principal.account_id}"
    uri = f"{_SCHEME}{cluster}.{DOMAIN}/{principal.role}/{principal.name}{account}/{principal.credential_id}"
    if _read(uri) is None:
        raise ValueError(f"{principal!r} has a name that a certificate cannot carry")
    return uri


def from_names(names: Iterable[str]) -> Principal | None:
    """The principal that the names of a genuine certificate tell; None if they tell none.

    A certificate with a URI is what the URI says, whatever other names it has.
    """
    names = tuple(names)
    uris = [name for name in names if ":" in name]
    if uris:
        return _read(uris[0]) if len(uris) == 1 else None
    return SERVICE if PEER_NAME in names else None


def _read(uri: str) -> Principal | None:
    found = _PATH.fullmatch(uri)
    if found is None:
        return None
    _cluster, role, name, account, credential_id = found.groups()
    if role not in _WITH_URI or not is_name(name) or (account and role != PrincipalRole.DRIVER):
        return None
    return Principal(PrincipalRole(role), name, credential_id, account_id=int(account) if account else None)


_WITH_URI = frozenset(PrincipalRole) - {PrincipalRole.SERVICE}
