"""The WebLogins service, which web services call, and the messages of tokens: decode, call, encode."""

from __future__ import annotations

import datetime
from typing import Any

from quakegrid.access.principals import PrincipalRole
from quakegrid.api.v1 import people_pb2
from quakegrid.internal.v1 import web_logins_pb2, web_logins_pb2_grpc
from quakegrid.services.dbserver.logins.book import LoginBook, WantedSession
from quakegrid.services.dbserver.logins.password_rows import PasswordRow
from quakegrid.services.dbserver.logins.passwords import Passwords
from quakegrid.services.dbserver.logins.token_rows import WebTokenKind, WebTokenRow
from quakegrid.services.dbserver.people import roles

_KINDS = {kind: people_pb2.WebTokenKind.Value(f"WEB_TOKEN_KIND_{kind.name}") for kind in WebTokenKind}


class WebLoginsServicer(web_logins_pb2_grpc.WebLoginsServicer):
    """Answers web services.

    Args:
        book: tokens and sessions.
        passwords: of people.
    """

    def __init__(self, book: LoginBook, passwords: Passwords) -> None:
        self._book, self._passwords = book, passwords

    async def CheckPassword(  # noqa: N802  named in the proto
        self, request: web_logins_pb2.CheckPasswordRequest, _context: Any
    ) -> web_logins_pb2.CheckPasswordResponse:
        """Whether a password is a person's."""
        role = await self._passwords.checks.check(request.login_name, request.password, request.address)
        return web_logins_pb2.CheckPasswordResponse(role=roles.NUMBERS[role])

    async def OpenWebSession(  # noqa: N802  named in the proto
        self, request: web_logins_pb2.OpenWebSessionRequest, _context: Any
    ) -> web_logins_pb2.OpenWebSessionResponse:
        """Begin a session."""
        wanted = WantedSession(
            request.way,
            request.life.ToTimedelta().total_seconds(),
            request.idle_timeout.ToTimedelta().total_seconds(),
        )
        role = roles.ROLES.get(request.role, PrincipalRole.USER)
        text, row = await self._book.open_session(wanted, request.name, role, request.token_id)
        return web_logins_pb2.OpenWebSessionResponse(token=text, name=row.name, role=roles.NUMBERS[row.role])

    def FindWebCaller(  # noqa: N802  named in the proto
        self, request: web_logins_pb2.FindWebCallerRequest, _context: Any
    ) -> web_logins_pb2.FindWebCallerResponse:
        """Whose a token is, or what a person may do."""
        if not request.token_id:
            role = self._book.role_of(request.name)
            return web_logins_pb2.FindWebCallerResponse(name=request.name, role=roles.NUMBERS[role])
        row = self._book.find(request.token_id)
        found = web_logins_pb2.FindWebCallerResponse(
            name=row.name, role=roles.NUMBERS[row.role], kind=_KINDS[WebTokenKind(row.kind)]
        )
        found.end_time.FromDatetime(_time(row.until_s))
        return found

    async def EndWebSession(  # noqa: N802  named in the proto
        self, request: web_logins_pb2.EndWebSessionRequest, _context: Any
    ) -> web_logins_pb2.EndWebSessionResponse:
        """End a session."""
        await self._book.end_session(request.token_id)
        return web_logins_pb2.EndWebSessionResponse()


def encode(row: WebTokenRow) -> people_pb2.WebToken:
    """A token as clients get it."""
    found = people_pb2.WebToken(
        id=row.id,
        kind=_KINDS[WebTokenKind(row.kind)],
        name=row.name,
        role=roles.NUMBERS[row.role],
        label=row.label,
    )
    found.issue_time.FromDatetime(_time(row.issue_s))
    found.end_time.FromDatetime(_time(row.end_s))
    if row.use_s is not None:
        found.use_time.FromDatetime(_time(row.use_s))
    if row.revocation_s is not None:
        found.revocation_time.FromDatetime(_time(row.revocation_s))
    return found


def encode_holder(row: PasswordRow) -> people_pb2.PasswordHolder:
    """Somebody who has a password, as clients get it."""
    found = people_pb2.PasswordHolder(name=row.name, role=roles.NUMBERS[row.role], changer=row.changer)
    if row.change_s:
        found.change_time.FromDatetime(_time(row.change_s))
    return found


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
