"""Client of the dbserver's people: who one is, and the credentials that admins issue and revoke."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass

from quakegrid import errors
from quakegrid.access.principals import PEOPLE, PrincipalRole
from quakegrid.access.proofs import Certified
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.transport import certificates

_PREFIX = "PERSON_ROLE_"


@dataclass(frozen=True, slots=True)
class IssuedCredential:
    """A credential as the dbserver remembers it."""

    name: str
    role: str
    id: str
    issue_time: datetime.datetime
    end_time: datetime.datetime
    revocation_time: datetime.datetime | None
    issuer: str
    # What people call the cluster.
    cluster: str
    # How many tokens for nodes ended when it was issued: those of the person, with all earlier credentials.
    node_token_count: int = 0

    def state(self, now_time: datetime.datetime) -> str:
        """Whether it counts: "valid", "ended" or "revoked"."""
        if self.revocation_time is not None:
            return "revoked"
        return "valid" if now_time < self.end_time else "ended"


@dataclass(frozen=True, slots=True)
class RevokedCredentials:
    """What a person had until now.

    Args:
        credentials: that were valid.
        had_password: whether the person had one.
        web_token_count: how many tokens and logins at the web service counted.
        node_token_count: how many tokens for nodes that the person had made counted.
    """

    credentials: list[IssuedCredential]
    had_password: bool = False
    web_token_count: int = 0
    node_token_count: int = 0


@dataclass(frozen=True, slots=True)
class PasswordHolder:
    """Somebody who has a password.

    Args:
        name: of the person.
        role: what the person may do.
        change_time: when it was set; None if it is of an adopted database.
        changer: who set it; empty if it is of an adopted database.
    """

    name: str
    role: str
    change_time: datetime.datetime | None
    changer: str


class PeopleClient:
    """People over a connection to the dbserver, with its errors."""

    def __init__(self, database: DbClient) -> None:
        self._connection = database.connection
        self._stub = people_pb2_grpc.PeopleStub(database.connection.channel)

    def who_am_i(self) -> tuple[str, str]:
        """Our role and name, as the services see us; a service has no name."""
        response = self._connection.call(self._stub.WhoAmI, people_pb2.WhoAmIRequest())
        return response.role, response.name

    def renew_driver(self) -> Certified:
        """Another certificate for the driver that we are; its key is made here and stays here."""
        key_pem, public_key_pem = certificates.new_key()
        request = people_pb2.RenewDriverRequest(public_key_pem=public_key_pem)
        response = self._connection.call(self._stub.RenewDriver, request)
        return Certified(response.ca_pem, key_pem, response.certificate_pem)

    def issue(
        self,
        name: str,
        role: PrincipalRole,
        life: datetime.timedelta,
        *,
        is_only: bool = False,
        cluster: str = "",
    ) -> tuple[IssuedCredential, Certified]:
        """A new credential; its key is made here and stays here.

        Args:
            name: of the person.
            role: what the person may do.
            life: how long it counts.
            is_only: whether all earlier ones of the person are revoked.
            cluster: what people call the cluster; empty: as in the last credential.
        Raises:
            UsageError: a value is not allowed.
            StateError: the person has a valid credential of another role.
        """
        key_pem, public_pem = certificates.new_key()
        request = people_pb2.IssueCredentialRequest(
            name=name,
            role=people_pb2.PersonRole.Value(f"{_PREFIX}{role.name}"),
            public_key_pem=public_pem,
            is_only=is_only,
            cluster=cluster,
        )
        request.life.FromTimedelta(life)
        response = self._connection.call(self._stub.IssueCredential, request)
        proof = Certified(response.ca_pem, key_pem, response.certificate_pem)
        issued = decode_credential(response.credential)
        return dataclasses.replace(issued, node_token_count=response.node_token_count), proof

    def list_all(self) -> list[IssuedCredential]:
        """All credentials, also those that have ended, by name."""
        request = people_pb2.ListCredentialsRequest()
        return list(
            map(decode_credential, self._connection.call(self._stub.ListCredentials, request).credentials)
        )

    def list_passwords(self) -> list[PasswordHolder]:
        """All who can log in at the web service with a password, by name."""
        request = people_pb2.ListCredentialsRequest()
        found = self._connection.call(self._stub.ListCredentials, request).password_holders
        return [
            PasswordHolder(
                each.name,
                _role(each.role),
                each.change_time.ToDatetime(datetime.UTC) if each.HasField("change_time") else None,
                each.changer,
            )
            for each in found
        ]

    def find_valid(self, name: str) -> IssuedCredential:
        """The valid credential of a person that ends last.

        Raises:
            NotFoundError: there is none.
        """
        now_time = datetime.datetime.now(datetime.UTC)
        found = [each for each in self.list_all() if each.name == name and each.state(now_time) == "valid"]
        if not found:
            raise errors.NotFoundError(
                f"{name} has no valid credential; `quakegrid user add {name}` makes one, "
                "and `quakegrid user list` shows all"
            )
        return max(found, key=lambda each: each.end_time)

    def revoke(self, name: str, credential_id: str = "") -> RevokedCredentials:
        """Revoke all that a person has, or the credential whose id begins so; returns what was valid.

        Tokens for nodes that the person has made end in both cases.

        Raises:
            NotFoundError: nobody has the name, or no credential the id.
        """
        request = people_pb2.RevokeCredentialsRequest(name=name, id=credential_id)
        response = self._connection.call(self._stub.RevokeCredentials, request)
        revoked = list(map(decode_credential, response.revoked))
        return RevokedCredentials(
            revoked, response.had_password, response.web_token_count, response.node_token_count
        )

    def set_password(self, name: str, password: str, role: PrincipalRole | None = None) -> str:
        """Set the password with which a person logs in at the web service; returns the person's role.

        Args:
            name: of the person.
            password: empty: the person has none any more.
            role: of somebody new; None: as before.
        Raises:
            UsageError: a value is not allowed.
            NotFoundError: nobody has the name, and no role is given.
            StateError: the person has another role.
        """
        request = people_pb2.SetPasswordRequest(name=name, password=password)
        if role is not None:
            request.role = people_pb2.PersonRole.Value(f"{_PREFIX}{role.name}")
        return _role(self._connection.call(self._stub.SetPassword, request).role)


def decode_credential(found: people_pb2.Credential) -> IssuedCredential:
    """A credential of a message."""
    revocation_time = found.revocation_time.ToDatetime(datetime.UTC)
    return IssuedCredential(
        name=found.name,
        role=_role(found.role),
        id=found.id,
        issue_time=found.issue_time.ToDatetime(datetime.UTC),
        end_time=found.end_time.ToDatetime(datetime.UTC),
        revocation_time=revocation_time if found.HasField("revocation_time") else None,
        issuer=found.issuer,
        cluster=found.cluster,
    )


def _role(number: int) -> str:
    """The role's word; that of a newer dbserver may be one that we do not know."""
    names = {people_pb2.PersonRole.Value(f"{_PREFIX}{role.name}"): role.value for role in PEOPLE}
    return names.get(people_pb2.PersonRole.ValueType(number), "unknown")
