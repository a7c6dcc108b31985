"""Tokens for the web service: made over gRPC with a credential or the authkey, shown over HTTPS.

A program sends `Authorization: Bearer TOKEN`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient

# Of a token that a command makes for itself. A longer upload goes on: a token is looked at when a request
# begins.
COMMAND_LIFE = datetime.timedelta(hours=1)
_KIND = "WEB_TOKEN_KIND_"


@dataclass(frozen=True, slots=True)
class ListedWebToken:
    """A token or a login as the dbserver remembers it."""

    id: str
    # "token", "link" or "session".
    kind: str
    name: str
    role: str
    label: str
    issue_time: datetime.datetime
    end_time: datetime.datetime
    use_time: datetime.datetime | None
    revocation_time: datetime.datetime | None

    def state(self, now_time: datetime.datetime) -> str:
        """Whether it counts: "valid", "ended" or "revoked"."""
        if self.revocation_time is not None:
            return "revoked"
        return "valid" if now_time < self.end_time else "ended"


class WebTokensClient:
    """Tokens for the web service over a connection to the dbserver, with its errors."""

    def __init__(self, database: DbClient) -> None:
        self._connection = database.connection
        self._stub = people_pb2_grpc.PeopleStub(database.connection.channel)
        self._user_name = database.user_name

    def create(
        self, label: str, life: datetime.timedelta, *, is_single_use: bool = False, user_name: str = ""
    ) -> tuple[str, ListedWebToken]:
        """A new token, as a text and as it is listed.

        Args:
            label: what people call it.
            life: how long it counts.
            is_single_use: whether it is for one login.
            user_name: for whom, where the authkey proves who we are; empty: for the user of this process.
        Raises:
            UsageError: a value is not allowed.
            StateError: the person has too many.
        """
        request = people_pb2.CreateWebTokenRequest(
            label=label, is_single_use=is_single_use, user_name=user_name or self._user_name
        )
        request.life.FromTimedelta(life)
        response = self._connection.call(self._stub.CreateWebToken, request)
        return response.token, _decode(response.made)

    def list_all(self) -> list[ListedWebToken]:
        """Our own tokens and logins, or those of all for an admin, the newest first."""
        request = people_pb2.ListWebTokensRequest()
        return list(map(_decode, self._connection.call(self._stub.ListWebTokens, request).tokens))

    def revoke(self, token_id: str) -> ListedWebToken:
        """End the token or login whose id begins so; returns it as it was.

        Raises:
            NotFoundError: there is none.
            UsageError: there are several.
        """
        request = people_pb2.RevokeWebTokenRequest(id=token_id)
        return _decode(self._connection.call(self._stub.RevokeWebToken, request).revoked)


def _decode(found: people_pb2.WebToken) -> ListedWebToken:
    def time_of(field: str) -> datetime.datetime | None:
        if not found.HasField(field):  # type: ignore[arg-type]  # one of its names
            return None
        return getattr(found, field).ToDatetime(datetime.UTC)  # type: ignore[no-any-return]

    return ListedWebToken(
        id=found.id,
        kind=people_pb2.WebTokenKind.Name(found.kind).removeprefix(_KIND).lower(),
        name=found.name,
        role=people_pb2.PersonRole.Name(found.role).removeprefix("PERSON_ROLE_").lower(),
        label=found.label,
        issue_time=found.issue_time.ToDatetime(datetime.UTC),
        end_time=found.end_time.ToDatetime(datetime.UTC),
        use_time=time_of("use_time"),
        revocation_time=time_of("revocation_time"),
    )
