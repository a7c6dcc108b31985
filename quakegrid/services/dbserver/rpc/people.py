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
from quakegrid.errors import NotAllowedError, UsageError
from quakegrid.services.dbserver.logins import book, password_rows, servicers
from quakegrid.services.dbserver.logins.book import LoginBook
from quakegrid.services.dbserver.logins.passwords import Passwords
from quakegrid.services.dbserver.people import credentials, roles
from quakegrid.services.dbserver.people.credentials import CredentialRow, Revoked
from quakegrid.services.dbserver.people.listed import CredentialWrites
from quakegrid.services.dbserver.people.valid import ValidCredentials
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.transport import callers, certificates
from quakegrid.transport.credentials import Signer

SHORTEST_LIFE_S = 3600
LONGEST_LIFE_S = 10 * 366 * 86_400
LONGEST_KEY_BYTES = 1000
logger = logging.getLogger("dbserver")


class PeopleServicer(people_pb2_grpc.PeopleServicer):
    """Answers calls about people. Made in the event loop that serves them.

    Args:
        readers: connections that read.
        writes: changes what counts.
        authority: signs.
        valid: which credentials count.
        logins: tokens for the web service.
        passwords: with which people log in there.
    """

    def __init__(
        self,
        readers: Readers,
        writes: CredentialWrites,
        authority: Signer,
        valid: ValidCredentials,
        *,
        logins: LoginBook,
        passwords: Passwords,
    ) -> None:
        self._readers, self._writes = readers, writes
        self._authority, self._valid = authority, valid
        self._logins, self._passwords = logins, passwords

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

        def issue(session: SqlSession) -> Revoked:
            book.take_role(session, new.name, role, issuer, is_only=request.is_only)
            return credentials.issue(session, new, is_only=request.is_only)

        revoked = await self._writes.do(issue)
        logger.info(
            "credential_issued name=%s role=%s id=%s by=%s only=%s",
            new.name,
            role,
            new.id,
            issuer,
            request.is_only,
        )
        return people_pb2.IssueCredentialResponse(
            credential=_encode(new),
            certificate_pem=certificate_pem,
            ca_pem=ca_pem,
            node_token_count=revoked.node_token_count,
        )

    def ListCredentials(  # noqa: N802  named in the proto
        self, _request: people_pb2.ListCredentialsRequest, _context: Any
    ) -> people_pb2.ListCredentialsResponse:
        """All of them."""
        session = self._readers.session()
        holders = map(servicers.encode_holder, password_rows.find_all(session))
        return people_pb2.ListCredentialsResponse(
            credentials=map(_encode, credentials.find_all(session)), password_holders=holders
        )

    async def RevokeCredentials(  # noqa: N802  named in the proto
        self, request: people_pb2.RevokeCredentialsRequest, _context: Any
    ) -> people_pb2.RevokeCredentialsResponse:
        """End credentials before their time."""
        revoker, now_s = str(callers.current()), time.time()

        def revoke(session: SqlSession) -> tuple[Revoked, bool, int]:
            had_password, count = False, 0
            if not request.id:
                had_password, count = book.end_person(session, request.name, revoker, now_s)
            if not had_password and not count:
                return credentials.revoke(session, request.name, request.id, revoker, now_s), False, 0
            return credentials.revoke_all(session, request.name, revoker, now_s), had_password, count

        revoked, had_password, count = await self._writes.do(revoke)
        for row in revoked.credentials:
            logger.info("credential_revoked name=%s id=%s by=%s", row.name, row.id, revoker)
        return people_pb2.RevokeCredentialsResponse(
            revoked=map(_encode, revoked.credentials),
            had_password=had_password,
            web_token_count=count,
            node_token_count=revoked.node_token_count,
        )

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

    async def CreateWebToken(  # noqa: N802  named in the proto
        self, request: people_pb2.CreateWebTokenRequest, _context: Any
    ) -> people_pb2.CreateWebTokenResponse:
        """Make a token, and remember its digest."""
        text, row = await self._logins.create(
            callers.current(),
            request.user_name,
            request.label,
            request.life.ToTimedelta().total_seconds(),
            is_single_use=request.is_single_use,
        )
        return people_pb2.CreateWebTokenResponse(token=text, made=servicers.encode(row))

    def ListWebTokens(  # noqa: N802  named in the proto
        self, _request: people_pb2.ListWebTokensRequest, _context: Any
    ) -> people_pb2.ListWebTokensResponse:
        """Those of the caller, or of all."""
        found = self._logins.listed(_owner())
        return people_pb2.ListWebTokensResponse(tokens=map(servicers.encode, found))

    async def RevokeWebToken(  # noqa: N802  named in the proto
        self, request: people_pb2.RevokeWebTokenRequest, _context: Any
    ) -> people_pb2.RevokeWebTokenResponse:
        """End a token."""
        row = await self._logins.revoke(request.id, _owner(), str(callers.current()))
        return people_pb2.RevokeWebTokenResponse(revoked=servicers.encode(row))

    async def SetPassword(  # noqa: N802  named in the proto
        self, request: people_pb2.SetPasswordRequest, _context: Any
    ) -> people_pb2.SetPasswordResponse:
        """Set or take away a password."""
        owner, role = _owner(), roles.ROLES.get(request.role)
        if owner is not None and (owner != request.name or role is not None):
            raise NotAllowedError(
                f"you are {callers.current()} and may set your own password only, with no role: that of "
                "others is for admins"
            )
        found = await self._passwords.set(request.name, request.password, role, str(callers.current()))
        return people_pb2.SetPasswordResponse(role=roles.NUMBERS[found])


def _owner() -> str | None:
    """Whose tokens and password the caller may see and change; None for those of all."""
    principal = callers.current()
    is_for_all = principal.role in (PrincipalRole.SERVICE, PrincipalRole.ADMIN)
    return None if is_for_all else principal.name


def _check(request: people_pb2.IssueCredentialRequest) -> tuple[PrincipalRole, float]:
    """The role and the life that are asked for.

    Raises:
        UsageError: something is not allowed.
    """
    if not principals.is_name(request.name):
        raise UsageError(f"{request.name[:100]!r} cannot be a person's name: {principals.ALLOWED_NAMES}")
    if request.cluster and not principals.is_name(request.cluster):
        raise UsageError(f"{request.cluster[:100]!r} cannot be a cluster's name: {principals.ALLOWED_NAMES}")
    role = roles.ROLES.get(request.role)
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
        role=roles.NUMBERS[row.role],
        issuer=row.issuer,
        cluster=row.cluster,
    )
    found.issue_time.FromDatetime(_time(row.issue_s))
    found.end_time.FromDatetime(_time(row.end_s))
    if row.revocation_s is not None:
        found.revocation_time.FromDatetime(_time(row.revocation_s))
    return found
