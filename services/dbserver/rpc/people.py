"""The People service: decode, call, encode. Signs the certificates of people with the cluster's CA key."""

from __future__ import annotations

import contextlib
import datetime
import logging
import re
import secrets
import socket
import time
from typing import Any

from quakegrid.access import principals
from quakegrid.access.principals import PEOPLE, Principal, PrincipalRole
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.errors import UsageError
from quakegrid.transport import callers, certificates
from quakegrid.transport.credentials import Signer
from services.dbserver.people import credentials
from services.dbserver.people.credentials import CredentialRow
from services.dbserver.people.listed import CredentialWrites
from services.dbserver.people.valid import ValidCredentials
from services.dbserver.store.database import Readers

SHORTEST_LIFE_S = 3600
LONGEST_LIFE_S = 10 * 366 * 86_400
LONGEST_KEY_BYTES = 1000
logger = logging.getLogger("dbserver")
_NUMBERS = {role.value: people_pb2.PersonRole.Value(f"PERSON_ROLE_{role.name}") for role in PEOPLE}
_ROLES = {number: PrincipalRole(role) for role, number in _NUMBERS.items()}


class PeopleServicer(people_pb2_grpc.PeopleServicer):
    """Answers calls about people. Made in the event loop that serves them.

    Args:
        readers: connections that read.
        writes: changes what counts.
        authority: signs.
        valid: which credentials count.
    """

    def __init__(
        self, readers: Readers, writes: CredentialWrites, authority: Signer, valid: ValidCredentials
    ) -> None:
        self._readers, self._writes = readers, writes
        self._authority, self._valid = authority, valid

    async def WhoAmI(  # noqa: N802  named in the proto
        self, _request: people_pb2.WhoAmIRequest, _context: Any
    ) -> people_pb2.WhoAmIResponse:
        """The caller."""
        principal = callers.current()
        return people_pb2.WhoAmIResponse(role=principal.role, name=principal.name)

    async def IssueCredential(  # noqa: N802  named in the proto
        self, request: people_pb2.IssueCredentialRequest, _context: Any
    ) -> people_pb2.IssueCredentialResponse:
        """Sign a certificate and remember it."""
        role, life_s = _check(request)
        now_s = time.time()
        issuer = str(callers.current())
        cluster = request.cluster or credentials.last_cluster(self._readers.session()) or _own_name()
        new = CredentialRow(secrets.token_hex(16), request.name, role, now_s, now_s + life_s, issuer, cluster)
        try:
            ca_pem, certificate_pem = self._authority.certify(
                Principal(role, new.name, new.id), request.public_key_pem, _time(now_s), _time(new.end_s)
            )
        except ValueError as exc:
            raise UsageError(f"no certificate can be made: {exc}") from exc
        await self._writes.do(lambda session: credentials.issue(session, new, is_only=request.is_only))
        logger.info(
            "credential_issued name=%s role=%s id=%s by=%s only=%s",
            new.name,
            role,
            new.id,
            issuer,
            request.is_only,
        )
        return people_pb2.IssueCredentialResponse(
            credential=_encode(new), certificate_pem=certificate_pem, ca_pem=ca_pem
        )

    def ListCredentials(  # noqa: N802  named in the proto
        self, _request: people_pb2.ListCredentialsRequest, _context: Any
    ) -> people_pb2.ListCredentialsResponse:
        """All of them."""
        found = credentials.find_all(self._readers.session())
        return people_pb2.ListCredentialsResponse(credentials=map(_encode, found))

    async def RevokeCredentials(  # noqa: N802  named in the proto
        self, request: people_pb2.RevokeCredentialsRequest, _context: Any
    ) -> people_pb2.RevokeCredentialsResponse:
        """End credentials before their time."""
        revoker, now_s = str(callers.current()), time.time()
        revoked = await self._writes.do(
            lambda session: credentials.revoke(session, request.name, request.id, revoker, now_s)
        )
        for row in revoked:
            logger.info("credential_revoked name=%s id=%s by=%s", row.name, row.id, revoker)
        return people_pb2.RevokeCredentialsResponse(revoked=map(_encode, revoked))

    async def WatchCredentials(  # type: ignore[override]  # noqa: N802  named in the proto
        self, _request: people_pb2.WatchCredentialsRequest, context: Any
    ) -> None:
        """Which credentials count, again and again."""
        async with contextlib.aclosing(self._valid.watch()) as changes:
            async for listed in changes:
                await context.write(
                    people_pb2.WatchCredentialsResponse(
                        ids=sorted(listed.ids),
                        shut_out_nodes=sorted(listed.shut_out_nodes),
                        shut_out_ids=sorted(listed.shut_out_ids),
                    )
                )

    async def RenewDriver(  # noqa: N802  named in the proto
        self, request: people_pb2.RenewDriverRequest, _context: Any
    ) -> people_pb2.RenewDriverResponse:
        """Sign another certificate for a driver, which says what its present one says."""
        if len(request.public_key_pem) > LONGEST_KEY_BYTES:
            raise UsageError(f"a public key has at most {LONGEST_KEY_BYTES} bytes")
        now_time = _time(time.time())
        try:
            ca_pem, certificate_pem = self._authority.certify(
                callers.current(), request.public_key_pem, now_time, now_time + certificates.DRIVER_LIFE
            )
        except ValueError as exc:
            raise UsageError(f"no certificate can be made: {exc}") from exc
        return people_pb2.RenewDriverResponse(certificate_pem=certificate_pem, ca_pem=ca_pem)


def _check(request: people_pb2.IssueCredentialRequest) -> tuple[PrincipalRole, float]:
    """The role and the life that are asked for.

    Raises:
        UsageError: something is not allowed.
    """
    if not principals.is_name(request.name):
        raise UsageError(f"{request.name[:100]!r} cannot be a person's name: {principals.ALLOWED_NAMES}")
    if request.cluster and not principals.is_name(request.cluster):
        raise UsageError(f"{request.cluster[:100]!r} cannot be a cluster's name: {principals.ALLOWED_NAMES}")
    role = _ROLES.get(request.role)
    if role is None:
        raise UsageError(f"the role is none that a person may have: {', '.join(PEOPLE)}")
    life_s = request.life.seconds + request.life.nanos / 1e9
    if not SHORTEST_LIFE_S <= life_s <= LONGEST_LIFE_S:
        raise UsageError("a credential lives for an hour to ten years")
    if len(request.public_key_pem) > LONGEST_KEY_BYTES:
        raise UsageError(f"a public key has at most {LONGEST_KEY_BYTES} bytes")
    return role, life_s


def _own_name() -> str:
    """The name of this machine, as far as a cluster can be called so."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0]).lstrip("-")
    return name[: principals.LONGEST_NAME] or "cluster"


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _encode(row: CredentialRow) -> people_pb2.Credential:
    found = people_pb2.Credential(
        id=row.id,
        name=row.name,
        role=_NUMBERS[row.role],
        issuer=row.issuer,
        cluster=row.cluster,
    )
    found.issue_time.FromDatetime(_time(row.issue_s))
    found.end_time.FromDatetime(_time(row.end_s))
    if row.revocation_s is not None:
        found.revocation_time.FromDatetime(_time(row.revocation_s))
    return found
