"""Client of the dbserver's node access: tokens, and the certificates that nodes get with them."""

from __future__ import annotations

import datetime
import socket
import ssl
from dataclasses import dataclass

from cryptography import x509

from quakegrid import errors
from quakegrid.access import node_tokens, principals
from quakegrid.access.node_tokens import NodeToken
from quakegrid.access.proofs import Certified, Proof
from quakegrid.api.v1 import node_access_pb2, node_access_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.settings import credential_files
from quakegrid.settings.config import Settings
from quakegrid.settings.node_files import NodeFile
from quakegrid.transport import certificates

CALL_TIMEOUT_S = 30.0
_PROBE_TIMEOUT_S = 5.0
# X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED of OpenSSL.
_WRONG_TIME = (9, 10)


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token as the dbserver remembers it; `host` is empty if any host may use it."""

    id: str
    host: str
    max_hosts: int
    hosts: tuple[str, ...]
    issue_time: datetime.datetime
    end_time: datetime.datetime
    revocation_time: datetime.datetime | None
    issuer: str

    def state(self, now_time: datetime.datetime) -> str:
        """Whether it can be used: "valid", "used", "ended" or "revoked"."""
        if self.revocation_time is not None:
            return "revoked"
        if len(self.hosts) >= self.max_hosts:
            return "used"
        return "valid" if now_time < self.end_time else "ended"


@dataclass(frozen=True, slots=True)
class ListedNode:
    """The newest certificate of a node."""

    host: str
    id: str
    issue_time: datetime.datetime
    renewal_time: datetime.datetime | None
    end_time: datetime.datetime
    revocation_time: datetime.datetime | None
    token_id: str

    def state(self, now_time: datetime.datetime) -> str:
        """Whether it counts: "valid", "ended" or "revoked"."""
        if self.revocation_time is not None:
            return "revoked"
        return "valid" if now_time < self.end_time else "ended"


class NodeAccessClient:
    """Tokens and nodes over a connection to the dbserver, with its errors."""

    def __init__(self, database: DbClient) -> None:
        self._connection = database.connection
        self._stub = node_access_pb2_grpc.NodeAccessStub(database.connection.channel)

    def create_token(
        self, addresses: tuple[str, str], life: datetime.timedelta, *, host: str = "", max_hosts: int = 1
    ) -> tuple[ListedToken, str]:
        """A new token, as it is listed and as a text; its key is made here.

        Args:
            addresses: of dbserver and broker, as nodes reach them.
            life: how long it counts.
            host: the one host that may use it; empty for any.
            max_hosts: how many hosts may use it.
        Raises:
            UsageError: a value is not allowed.
        """
        key_pem, public_pem = certificates.new_key()
        request = node_access_pb2.CreateTokenRequest(
            public_key_pem=public_pem, host=host, max_hosts=max_hosts
        )
        request.life.FromTimedelta(life)
        response = self._connection.call(self._stub.CreateToken, request)
        token = NodeToken(
            *addresses,
            certificates.public_key_of(response.ca_pem),
            certificates.key_bytes(key_pem),
            certificates.certificate_bytes(response.certificate_pem),
        )
        return _decode_token(response.token), node_tokens.to_text(token)

    def list_tokens(self) -> list[ListedToken]:
        """All tokens, the newest first."""
        request = node_access_pb2.ListTokensRequest()
        return [_decode_token(each) for each in self._connection.call(self._stub.ListTokens, request).tokens]

    def revoke_token(self, token_id: str) -> ListedToken:
        """Revoke the token whose id begins so.

        Raises:
            NotFoundError: there is none.
            UsageError: there are several.
        """
        request = node_access_pb2.RevokeTokenRequest(id=token_id)
        return _decode_token(self._connection.call(self._stub.RevokeToken, request).revoked)

    def list_nodes(self) -> list[ListedNode]:
        """All nodes that have had a certificate, by name."""
        request = node_access_pb2.ListNodesRequest()
        return [decode_node(each) for each in self._connection.call(self._stub.ListNodes, request).nodes]

    def revoke_node(self, host: str) -> ListedNode | None:
        """Shut a node out; None if its certificate did not count any more.

        Raises:
            NotFoundError: no node of this name has had one.
        """
        request = node_access_pb2.RevokeNodeRequest(host=host)
        response = self._connection.call(self._stub.RevokeNode, request)
        return decode_node(response.revoked) if response.HasField("revoked") else None


def join(text: str, name: str, master: str = "") -> NodeFile:
    """Have this machine certified as a node; its key is made here and stays here.

    Args:
        text: the token.
        name: what the node is to be called; empty: as the token says, else as this machine.
        master: how the master is reached from here; empty: as the token says.
    Raises:
        UsageError: the text is no token, or a name is not allowed.
        CredentialError: the token does not count, or the service at the address is of another cluster.
        StateError: there is another node of this name.
        PeerUnreachableError: the dbserver does not answer.
    """
    now_time = datetime.datetime.now(datetime.UTC)
    try:
        token = node_tokens.from_text(text)
        anchor = certificates.trust_in(token.ca_public_key, now_time)
        proof = certificates.certified(anchor, token.key, token.certificate)
        dbserver, broker = (_at(address, master) for address in (token.dbserver, token.broker))
        certificate = x509.load_der_x509_certificate(token.certificate)
    except ValueError as exc:
        raise errors.UsageError(f"that is no token of `quakegrid token create --node`: {exc}") from None
    if now_time >= certificate.not_valid_after_utc:
        raise errors.CredentialError(
            f"the token ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; an admin makes a new "
            "one: `quakegrid token create --node`"
        )
    host = (name or _host_of(certificate) or socket.gethostname()).lower()
    key_pem, public_pem = certificates.new_key()
    request = node_access_pb2.CertifyNodeRequest(public_key_pem=public_pem, host=host)
    with Connection("dbserver", dbserver, proof, timeout_s=CALL_TIMEOUT_S) as connection:
        stub = node_access_pb2_grpc.NodeAccessStub(connection.channel)
        try:
            response = connection.call(stub.CertifyNode, request)
        except errors.PeerUnreachableError as exc:
            raise _why_unreachable(dbserver, anchor) or exc from None
    if token.ca_public_key not in certificates.public_keys_of(response.ca_pem):
        raise errors.CredentialError(f"the dbserver at {dbserver} answered for another cluster")
    return _node_file(
        response.node,
        Certified(response.ca_pem, key_pem, response.certificate_pem),
        dbserver=dbserver,
        broker=broker,
    )


def renew(old: NodeFile, proof: Proof) -> NodeFile:
    """A certificate for the same node that counts longer, and has a new key.

    Raises:
        CredentialError: the node was shut out.
        PeerUnreachableError: the dbserver does not answer.
    """
    key_pem, public_pem = certificates.new_key()
    request = node_access_pb2.RenewNodeRequest(host=old.host, public_key_pem=public_pem)
    with Connection("dbserver", old.dbserver, proof, timeout_s=CALL_TIMEOUT_S) as connection:
        stub = node_access_pb2_grpc.NodeAccessStub(connection.channel)
        response = connection.call(stub.RenewNode, request)
    return _node_file(
        response.node,
        Certified(response.ca_pem, key_pem, response.certificate_pem),
        dbserver=old.dbserver,
        broker=old.broker,
    )


def certify_driver(settings: Settings, person: str, account_id: int | None) -> Certified:
    """The certificate of a driver on a node that has a certificate; its key is made here.

    Raises:
        UsageError: the name is not allowed.
        PeerUnreachableError: the dbserver does not answer.
    """
    key_pem, public_pem = certificates.new_key()
    request = node_access_pb2.CertifyDriverRequest(
        person=person, account_id=account_id, public_key_pem=public_pem
    )
    address = settings.dbserver_address
    with Connection("dbserver", address, settings.proof, timeout_s=CALL_TIMEOUT_S) as connection:
        stub = node_access_pb2_grpc.NodeAccessStub(connection.channel)
        response = connection.call(stub.CertifyDriver, request)
    return Certified(response.ca_pem, key_pem, response.certificate_pem)


def _node_file(
    node: node_access_pb2.NodeCredential, proof: Certified, *, dbserver: str, broker: str
) -> NodeFile:
    start = node.renewal_time if node.HasField("renewal_time") else node.issue_time
    return NodeFile(
        host=node.host,
        dbserver=dbserver,
        broker=broker,
        start_time=start.ToDatetime(datetime.UTC),
        end_time=node.end_time.ToDatetime(datetime.UTC),
        proof=proof,
        machine=socket.gethostname(),
    )


def _at(address: str, master: str) -> str:
    """The address of a service, at the host that the user named."""
    host, port = credential_files.split_address(address)
    return f"{master or host}:{port}"


def _host_of(certificate: x509.Certificate) -> str:
    """The one host that a token is for; empty for any."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = principals.from_names(names.get_values_for_type(x509.UniformResourceIdentifier))
    return "" if found is None or found.name == node_tokens.ANY_HOST else found.name


def _why_unreachable(address: str, anchor: bytes) -> errors.QuakeGridError | None:
    """Why no connection could be made, if the other side shows a wrong certificate; None if it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=anchor.decode())
    try:
        with socket.create_connection(credential_files.split_address(address), _PROBE_TIMEOUT_S) as plain:
            context.wrap_socket(plain, server_hostname=principals.PEER_NAME).close()
    except ssl.SSLCertVerificationError as exc:
        if exc.verify_code in _WRONG_TIME:
            return errors.CredentialError(f"the clocks of this machine and of {address} differ too much")
        return errors.CredentialError(
            f"what answers at {address} is not of the cluster that made the token, so it was told nothing: "
            "another cluster, another key since then, or somebody between"
        )
    except OSError:
        return None
    return None


def _decode_token(found: node_access_pb2.NodeToken) -> ListedToken:
    revocation_time = found.revocation_time.ToDatetime(datetime.UTC)
    return ListedToken(
        id=found.id,
        host=found.host,
        max_hosts=found.max_hosts,
        hosts=tuple(found.hosts),
        issue_time=found.issue_time.ToDatetime(datetime.UTC),
        end_time=found.end_time.ToDatetime(datetime.UTC),
        revocation_time=revocation_time if found.HasField("revocation_time") else None,
        issuer=found.issuer,
    )


def decode_node(found: node_access_pb2.NodeCredential) -> ListedNode:
    """What is known of a node's certificate, of a message."""
    renewal_time = found.renewal_time.ToDatetime(datetime.UTC)
    revocation_time = found.revocation_time.ToDatetime(datetime.UTC)
    return ListedNode(
        host=found.host,
        id=found.id,
        issue_time=found.issue_time.ToDatetime(datetime.UTC),
        renewal_time=renewal_time if found.HasField("renewal_time") else None,
        end_time=found.end_time.ToDatetime(datetime.UTC),
        revocation_time=revocation_time if found.HasField("revocation_time") else None,
        token_id=found.token_id,
    )
