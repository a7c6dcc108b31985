"""The NodeAccess service: tokens for nodes, and the certificates that nodes get with them and renew."""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
import time
from dataclasses import dataclass
from typing import Any

from quakegrid.access import node_tokens, principals
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.api.v1 import node_access_pb2, node_access_pb2_grpc
from quakegrid.errors import UsageError
from quakegrid.services.dbserver.people import nodes, tokens
from quakegrid.services.dbserver.people.listed import CredentialWrites
from quakegrid.services.dbserver.people.nodes import NodeRow
from quakegrid.services.dbserver.people.tokens import TokenRow
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.transport import callers, certificates
from quakegrid.transport.credentials import Signer

# Of a node's certificate. Its agent renews it when half of it is over.
NODE_LIFE_S = 30 * 86_400.0
SHORTEST_TOKEN_S = 60
LONGEST_TOKEN_S = 30 * 86_400
LONGEST_KEY_BYTES = 1000
# Holders of tokens that are served at once: they are no nodes yet, so others come first.
_MOST_JOINING = 4
logger = logging.getLogger("dbserver")


@dataclass(frozen=True, slots=True)
class _Signed:
    """A new certificate, and the CA certificate, PEM."""

    ca_pem: bytes
    certificate_pem: bytes


class NodeAccessServicer(node_access_pb2_grpc.NodeAccessServicer):
    """Answers calls about nodes and tokens. Made in the event loop that serves them.

    Args:
        readers: connections that read.
        writes: changes what counts.
        authority: signs.
    """

    def __init__(self, readers: Readers, writes: CredentialWrites, authority: Signer) -> None:
        self._readers, self._writes, self._authority = readers, writes, authority
        self._joining = asyncio.Semaphore(_MOST_JOINING)

    # --- tokens

    async def CreateToken(  # noqa: N802  named in the proto
        self, request: node_access_pb2.CreateTokenRequest, _context: Any
    ) -> node_access_pb2.CreateTokenResponse:
        """Sign the certificate of a token, and remember it."""
        host = _host(request.host) if request.host else ""
        if not 0 <= request.max_hosts <= nodes.MOST_NODES:
            raise UsageError(f"a token is for 1 to {nodes.MOST_NODES} hosts")
        life_s = request.life.seconds + request.life.nanos / 1e9
        if not SHORTEST_TOKEN_S <= life_s <= LONGEST_TOKEN_S:
            raise UsageError("a token lives for a minute to 30 days")
        now_s = time.time()
        issuer, max_hosts = str(callers.current()), request.max_hosts or 1
        new = TokenRow(secrets.token_hex(16), host, max_hosts, now_s, now_s + life_s, issuer)
        holder = Principal(PrincipalRole.TOKEN, host or node_tokens.ANY_HOST, new.id)
        signed = self._sign(holder, request.public_key_pem, now_s, new.end_s)
        await self._writes.do(lambda session: tokens.issue(session, new))
        logger.info("token_issued id=%s host=%s max_hosts=%d by=%s", new.id, host or "any", max_hosts, issuer)
        return node_access_pb2.CreateTokenResponse(
            token=_encode_token(new, []), certificate_pem=signed.certificate_pem, ca_pem=signed.ca_pem
        )

    def ListTokens(  # noqa: N802  named in the proto
        self, _request: node_access_pb2.ListTokensRequest, _context: Any
    ) -> node_access_pb2.ListTokensResponse:
        """All of them."""
        session = self._readers.session()
        found = [_encode_token(row, tokens.users(session, row.id)) for row in tokens.find_all(session)]
        return node_access_pb2.ListTokensResponse(tokens=found)

    async def RevokeToken(  # noqa: N802  named in the proto
        self, request: node_access_pb2.RevokeTokenRequest, _context: Any
    ) -> node_access_pb2.RevokeTokenResponse:
        """End a token before its time."""
        revoker, now_s = str(callers.current()), time.time()

        def revoke(session: SqlSession) -> tuple[TokenRow, list[str]]:
            row = tokens.revoke(session, request.id, revoker, now_s)
            return row, tokens.users(session, row.id)

        row, hosts = await self._writes.do(revoke)
        logger.info("token_revoked id=%s by=%s", row.id, revoker)
        return node_access_pb2.RevokeTokenResponse(revoked=_encode_token(row, hosts))

    # --- nodes

    async def CertifyNode(  # noqa: N802  named in the proto
        self, request: node_access_pb2.CertifyNodeRequest, _context: Any
    ) -> node_access_pb2.CertifyNodeResponse:
        """Sign the certificate of a node for the holder of a token."""
        holder, host, now_s = callers.current(), _host(request.host), time.time()
        new = NodeRow(host, secrets.token_hex(16), now_s, now_s + NODE_LIFE_S, holder.credential_id)
        principal = Principal(PrincipalRole.NODE, host, new.id)

        def certify(session: SqlSession) -> None:
            token = tokens.use(session, holder.credential_id, host, now_s)
            nodes.issue(session, new, may_replace=token.host == host)

        async with self._joining:
            signed = self._sign(principal, request.public_key_pem, now_s, new.end_s)
            await self._writes.do(certify)
        logger.info("node_certified host=%s id=%s token=%s", host, new.id, holder.credential_id)
        return node_access_pb2.CertifyNodeResponse(
            node=_encode_node(new), certificate_pem=signed.certificate_pem, ca_pem=signed.ca_pem
        )

    async def RenewNode(  # noqa: N802  named in the proto
        self, request: node_access_pb2.RenewNodeRequest, _context: Any
    ) -> node_access_pb2.RenewNodeResponse:
        """Sign a certificate that counts longer, with the same id."""
        node, now_s = callers.current(), time.time()
        if node.role is not PrincipalRole.NODE:
            raise UsageError("only a node that has a certificate has it renewed")
        end_s = now_s + NODE_LIFE_S
        principal = Principal(PrincipalRole.NODE, node.name, node.credential_id)
        signed = self._sign(principal, request.public_key_pem, now_s, end_s)
        row = await self._writes.do(
            lambda session: nodes.renew(session, node.name, node.credential_id, end_s, now_s)
        )
        logger.info("node_renewed host=%s id=%s", row.host, row.id)
        return node_access_pb2.RenewNodeResponse(
            node=_encode_node(row), certificate_pem=signed.certificate_pem, ca_pem=signed.ca_pem
        )

    async def CertifyDriver(  # noqa: N802  named in the proto
        self, request: node_access_pb2.CertifyDriverRequest, _context: Any
    ) -> node_access_pb2.CertifyDriverResponse:
        """Sign the certificate of a driver, whose id tells by which node."""
        node, now_s = callers.current(), time.time()
        if not principals.is_name(request.person):
            raise UsageError(
                f"no calculation can run for {request.person[:100]!r}, which cannot be a person's name: "
                f"{principals.ALLOWED_NAMES}"
            )
        # A node may be believed whose a calculation is, but not that it is root's: agents that run as root
        # would run its workers as root.
        account_id = request.account_id or None
        credential_id = node.credential_id[: principals.NODE_PART] + secrets.token_hex(8)
        driver = Principal(PrincipalRole.DRIVER, request.person, credential_id, account_id=account_id)
        end_s = now_s + certificates.DRIVER_LIFE.total_seconds()
        signed = self._sign(driver, request.public_key_pem, now_s, end_s)
        logger.info("driver_certified person=%s node=%s id=%s", request.person, node.name, credential_id)
        return node_access_pb2.CertifyDriverResponse(
            certificate_pem=signed.certificate_pem, ca_pem=signed.ca_pem
        )

    def ListNodes(  # noqa: N802  named in the proto
        self, _request: node_access_pb2.ListNodesRequest, _context: Any
    ) -> node_access_pb2.ListNodesResponse:
        """All that have had a certificate."""
        found = nodes.current(nodes.find_all(self._readers.session()))
        return node_access_pb2.ListNodesResponse(nodes=map(_encode_node, found))

    async def RevokeNode(  # noqa: N802  named in the proto
        self, request: node_access_pb2.RevokeNodeRequest, _context: Any
    ) -> node_access_pb2.RevokeNodeResponse:
        """Shut a node out."""
        revoker, now_s, host = str(callers.current()), time.time(), request.host.lower()
        row = await self._writes.do(lambda session: nodes.revoke(session, host, revoker, now_s))
        if row is None:
            return node_access_pb2.RevokeNodeResponse()
        logger.info("node_revoked host=%s id=%s by=%s", row.host, row.id, revoker)
        return node_access_pb2.RevokeNodeResponse(revoked=_encode_node(row))

    def _sign(self, principal: Principal, public_key_pem: bytes, now_s: float, end_s: float) -> _Signed:
        """Sign a certificate.

        Raises:
            UsageError: the key is none that we sign.
        """
        if len(public_key_pem) > LONGEST_KEY_BYTES:
            raise UsageError(f"a public key has at most {LONGEST_KEY_BYTES} bytes")
        try:
            return _Signed(*self._authority.certify(principal, public_key_pem, _time(now_s), _time(end_s)))
        except ValueError as exc:
            raise UsageError(f"no certificate can be made: {exc}") from exc


def _host(name: str) -> str:
    """The name of a node, as it is kept: hosts differ by more than upper and lower case.

    Raises:
        UsageError: it is none.
    """
    if not principals.is_name(name):
        raise UsageError(f"{name[:100]!r} cannot be a node's name: {principals.ALLOWED_NAMES}")
    return name.lower()


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _encode_token(row: TokenRow, hosts: list[str]) -> node_access_pb2.NodeToken:
    found = node_access_pb2.NodeToken(
        id=row.id, host=row.host, max_hosts=row.max_hosts, hosts=hosts, issuer=row.issuer
    )
    found.issue_time.FromDatetime(_time(row.issue_s))
    found.end_time.FromDatetime(_time(row.end_s))
    if row.revocation_s is not None:
        found.revocation_time.FromDatetime(_time(row.revocation_s))
    return found


def _encode_node(row: NodeRow) -> node_access_pb2.NodeCredential:
    found = node_access_pb2.NodeCredential(host=row.host, id=row.id, token_id=row.token_id)
    found.issue_time.FromDatetime(_time(row.issue_s))
    found.end_time.FromDatetime(_time(row.end_s))
    if row.renewal_s is not None:
        found.renewal_time.FromDatetime(_time(row.renewal_s))
    if row.revocation_s is not None:
        found.revocation_time.FromDatetime(_time(row.revocation_s))
    return found
