"""Passwords, tokens and sessions of the web service in a real dbserver."""

from __future__ import annotations

import base64
import datetime
import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from quakegrid import errors
from quakegrid.access import web_tokens
from quakegrid.access.principals import PrincipalRole
from quakegrid.access.proofs import Certified
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient, RevokedCredentials
from quakegrid.clients.web_tokens import WebTokensClient
from quakegrid.internal.v1 import web_logins_pb2, web_logins_pb2_grpc
from quakegrid.settings.config import Settings
from quakegrid.transport.keys import web_token_keys
from tests.support.dbservers import LocalDbServer

HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
USER, OPERATOR, ADMIN = PrincipalRole.USER, PrincipalRole.OPERATOR, PrincipalRole.ADMIN
PASSWORD = "correct horse battery"
TIMEOUT_S = 60.0


class Logins:
    """What a web service asks."""

    def __init__(self, client: DbClient) -> None:
        self._connection = client.connection
        self._stub = web_logins_pb2_grpc.WebLoginsStub(client.connection.channel)

    def check(self, name: str, password: str = PASSWORD, address: str = "10.0.0.1") -> str:
        """The role of whoever has this password."""
        request = web_logins_pb2.CheckPasswordRequest(login_name=name, password=password, address=address)
        role = self._connection.call(self._stub.CheckPassword, request).role
        return people_pb2.PersonRole.Name(role).removeprefix("PERSON_ROLE_").lower()

    def open(self, name: str = "", link: str = "", life: datetime.timedelta = HOUR) -> str:
        """The cookie of a new session."""
        request = web_logins_pb2.OpenWebSessionRequest(name=name, way="password")
        request.token_id = web_tokens.id_of(link) if link else ""
        request.life.FromTimedelta(life)
        request.idle_timeout.FromTimedelta(HOUR)
        return self._connection.call(self._stub.OpenWebSession, request).token

    def find(self, token: str) -> tuple[str, str]:
        """Whose it is, and what the person may do."""
        request = web_logins_pb2.FindWebCallerRequest(token_id=web_tokens.id_of(token))
        found = self._connection.call(self._stub.FindWebCaller, request)
        return found.name, people_pb2.PersonRole.Name(found.role).removeprefix("PERSON_ROLE_").lower()

    def end(self, token: str) -> None:
        """End a session."""
        request = web_logins_pb2.EndWebSessionRequest(token_id=web_tokens.id_of(token))
        self._connection.call(self._stub.EndWebSession, request)

    def counts(self, token: str) -> bool:
        """Whether it counts."""
        try:
            self.find(token)
        except errors.NotFoundError:
            return False
        return True


@pytest.fixture
def logins(client: DbClient) -> Logins:
    """A running dbserver, asked as a web service asks it."""
    return Logins(client)


@pytest.fixture
def people(client: DbClient) -> PeopleClient:
    """The people of the dbserver, asked by a service."""
    return PeopleClient(client)


def as_person(
    settings: Settings, proof: Certified, act: Callable[[people_pb2_grpc.PeopleStub], object]
) -> None:
    """Do something as the person of a credential."""
    with Connection("dbserver", settings.dbserver_address, proof, timeout_s=TIMEOUT_S) as connection:
        act(people_pb2_grpc.PeopleStub(connection.channel))


def test_token_for_programs_says_who_one_is(dbserver: LocalDbServer, logins: Logins) -> None:
    """One signed by the cluster, of which the database has no copy."""
    with closing(DbClient(dbserver.settings)) as client:
        token, _ = WebTokensClient(client).create("", HOUR)

    keys = web_token_keys.known_keys(dbserver.settings.authkey, 0.0)
    assert web_tokens.is_genuine(token, keys)
    assert logins.find(token) == (dbserver.settings.user_name, "admin")
    assert token.removeprefix(web_tokens.PREFIX).encode() not in dbserver.settings.database.read_bytes()


def test_token_is_listed_and_revoked(client: DbClient, logins: Logins) -> None:
    """By the beginning of its id."""
    tokens = WebTokensClient(client)
    token, made = tokens.create("nightly runs", 90 * DAY, user_name="anna")
    assert logins.find(token) == ("anna", "admin")

    (listed,) = tokens.list_all()
    assert (listed.id, listed.kind, listed.label, listed.name) == (made.id, "token", "nightly runs", "anna")

    tokens.revoke(made.id[:8])
    assert not logins.counts(token)
    assert tokens.list_all()[0].state(datetime.datetime.now(datetime.UTC)) == "revoked"


@pytest.mark.parametrize(
    ("label", "life", "name"), [("x" * 101, HOUR, "anna"), ("a\nb", HOUR, "anna"), ("", 401 * DAY, "anna"),
                                ("", datetime.timedelta(0), "anna"), ("", HOUR, "-anna")]
)  # fmt: skip
def test_token_that_is_not_allowed_is_not_made(
    client: DbClient, label: str, life: datetime.timedelta, name: str
) -> None:
    """With words."""
    with pytest.raises(errors.UsageError):
        WebTokensClient(client).create(label, life, user_name=name)
    with pytest.raises(errors.UsageError, match="1 hours"):
        WebTokensClient(client).create("", 2 * HOUR, is_single_use=True)


def test_person_makes_and_sees_own_tokens_only(
    dbserver: LocalDbServer, client: DbClient, logins: Logins, people: PeopleClient
) -> None:
    """They end with the credential that they were made with, at the latest."""
    anna, proof = people.issue("anna", USER, DAY)
    others, _ = WebTokensClient(client).create("", HOUR, user_name="ben")
    made: list[people_pb2.CreateWebTokenResponse] = []

    def act(stub: people_pb2_grpc.PeopleStub) -> None:
        request = people_pb2.CreateWebTokenRequest(user_name="ben")
        request.life.FromTimedelta(300 * DAY)
        made.append(stub.CreateWebToken(request))
        listed = stub.ListWebTokens(people_pb2.ListWebTokensRequest()).tokens
        assert [each.name for each in listed] == ["anna"]

    as_person(dbserver.settings, proof, act)
    assert logins.find(made[0].token) == ("anna", "user")
    assert made[0].made.end_time.ToDatetime(datetime.UTC) <= anna.end_time + datetime.timedelta(seconds=1)

    people.revoke("anna", anna.id)
    assert not logins.counts(made[0].token)
    assert logins.counts(others)


def test_link_is_for_one_login(client: DbClient, logins: Logins) -> None:
    """A second one is refused, and it is no token for programs."""
    link, _ = WebTokensClient(client).create("link", HOUR, is_single_use=True, user_name="anna")
    assert not logins.counts(link)

    session = logins.open(link=link)

    assert logins.find(session) == ("anna", "admin")
    with pytest.raises(errors.NotAllowedError, match="the link does not count"):
        logins.open(link=link)
    with pytest.raises(errors.NotAllowedError):
        logins.open(link=session)


def test_password_is_checked_and_changed(logins: Logins, people: PeopleClient) -> None:
    """A new one ends the sessions of the old one."""
    assert people.set_password("anna", PASSWORD, OPERATOR) == "operator"
    assert logins.check("anna") == "operator"
    session = logins.open("anna")
    assert logins.find(session) == ("anna", "operator")

    assert people.set_password("anna", "another password") == "operator"

    assert not logins.counts(session)
    with pytest.raises(errors.NotAllowedError, match="the name or the password is wrong"):
        logins.check("anna")
    assert logins.check("anna", "another password") == "operator"


def test_wrong_passwords_have_to_wait(logins: Logins, people: PeopleClient) -> None:
    """Then also the right one."""
    people.set_password("anna", PASSWORD, USER)
    for _ in range(5):
        with pytest.raises(errors.NotAllowedError):
            logins.check("anna", "wrong password")

    with pytest.raises(errors.TooManyTriesError, match="wait 1 s"):
        logins.check("anna")


def test_passwords_that_are_not_allowed(logins: Logins, people: PeopleClient) -> None:
    """Short ones, long ones, of nobody, and of somebody with another role."""
    for password in ("short", "x" * 257):
        with pytest.raises(errors.UsageError, match="8 to 256 characters"):
            people.set_password("anna", password, USER)
    with pytest.raises(errors.NotFoundError, match="quakegrid user add nobody --password"):
        people.set_password("nobody", PASSWORD)
    people.issue("otto", OPERATOR, DAY)
    with pytest.raises(errors.StateError, match="otto has the role operator"):
        people.set_password("otto", PASSWORD, USER)
    assert people.set_password("otto", PASSWORD) == "operator"
    people.revoke("otto", people.find_valid("otto").id)
    with pytest.raises(errors.StateError, match="otto logs in with the role operator"):
        people.issue("otto", USER, DAY)
    assert logins.check("otto") == "operator"


def test_people_set_their_own_password_only(
    dbserver: LocalDbServer, logins: Logins, people: PeopleClient
) -> None:
    """And no role."""
    _, proof = people.issue("anna", USER, DAY)

    def act(stub: people_pb2_grpc.PeopleStub) -> None:
        stub.SetPassword(people_pb2.SetPasswordRequest(name="anna", password=PASSWORD))
        for name, role in (
            ("ben", people_pb2.PERSON_ROLE_UNSPECIFIED),
            ("anna", people_pb2.PERSON_ROLE_ADMIN),
        ):
            with pytest.raises(Exception, match="you are anna"):
                stub.SetPassword(people_pb2.SetPasswordRequest(name=name, password=PASSWORD, role=role))

    as_person(dbserver.settings, proof, act)
    assert logins.check("anna") == "user"


def test_revoked_person_has_nothing_left(client: DbClient, logins: Logins, people: PeopleClient) -> None:
    """No password, no session, no token; and is known no more."""
    people.set_password("anna", PASSWORD, USER)
    token, _ = WebTokensClient(client).create("", HOUR, user_name="anna")
    session, link = logins.open("anna"), WebTokensClient(client).create("", HOUR, is_single_use=True,
                                                                       user_name="anna")[0]  # fmt: skip

    assert people.revoke("anna") == RevokedCredentials([], had_password=True, web_token_count=3)

    assert not logins.counts(token)
    assert not logins.counts(session)
    with pytest.raises(errors.NotAllowedError):
        logins.open(link=link)
    with pytest.raises(errors.NotAllowedError):
        logins.check("anna")
    with pytest.raises(errors.NotAllowedError, match="shut out"):  # whose password was checked just before
        logins.open("anna")
    with pytest.raises(errors.NotFoundError):
        people.revoke("anna")


def test_another_role_ends_what_was_before(logins: Logins, people: PeopleClient) -> None:
    """A session never has a role that its person has no more."""
    people.set_password("anna", PASSWORD, OPERATOR)
    session = logins.open("anna")

    people.issue("anna", USER, DAY, is_only=True)

    assert not logins.counts(session)
    assert logins.check("anna") == "user"


def test_logout_ends_a_session_at_once(logins: Logins, people: PeopleClient) -> None:
    """And a second one changes nothing."""
    people.set_password("anna", PASSWORD, USER)
    session = logins.open("anna")

    logins.end(session)
    logins.end(session)

    assert not logins.counts(session)


def test_session_ends_by_itself(logins: Logins, people: PeopleClient) -> None:
    """One whose life is over counts no more; the next logins make room for themselves."""
    people.set_password("anna", PASSWORD, USER)

    assert not logins.counts(logins.open("anna", life=datetime.timedelta(microseconds=1)))
    first = logins.open("anna")
    for _ in range(100):
        last = logins.open("anna")
    assert not logins.counts(first)
    assert logins.counts(last)


def test_adopted_people_keep_their_passwords(
    dbserver: LocalDbServer, logins: Logins, people: PeopleClient
) -> None:
    """Django's hashes count, and are replaced at the first login; who is not active is not let in."""
    digest = base64.b64encode(hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"salt", 1000)).decode()
    stored = f"pbkdf2_sha256$1000$salt${digest}"
    with closing(sqlite3.connect(dbserver.settings.database, timeout=TIMEOUT_S)) as database, database:
        database.execute(
            "CREATE TABLE auth_user (username TEXT, password TEXT, is_superuser INTEGER, is_active INTEGER)"
        )
        rows = [("olga", stored, 0, 1), ("sven", stored, 1, 1), ("lars", stored, 1, 0)]
        database.executemany("INSERT INTO auth_user VALUES (?, ?, ?, ?)", rows)

    assert logins.check("olga") == "user"
    assert logins.check("olga") == "user"
    assert logins.check("sven") == "operator"
    with pytest.raises(errors.NotAllowedError):
        logins.check("lars")

    with closing(sqlite3.connect(dbserver.settings.database, timeout=TIMEOUT_S)) as database:
        hashed = dict(database.execute("SELECT name, hash FROM quakegrid_password").fetchall())
    assert {name: text[:10] for name, text in hashed.items()} == {"olga": "$argon2id$", "sven": "$argon2id$"}
    people.revoke("olga")
    with pytest.raises(errors.NotAllowedError):
        logins.check("olga")


def test_secrets_of_logins_are_not_read_by_sql(dbserver: LocalDbServer, people: PeopleClient) -> None:
    """Not by an admin either."""
    _, proof = people.issue("ada", ADMIN, DAY)
    from quakegrid.api.v1 import database_pb2, database_pb2_grpc

    with Connection("dbserver", dbserver.settings.dbserver_address, proof, timeout_s=TIMEOUT_S) as connection:
        stub = database_pb2_grpc.DatabaseStub(connection.channel)
        for table in ("quakegrid_password", "quakegrid_web_token", "AUTH_USER"):
            with pytest.raises(errors.NotAllowedError, match="the dbserver alone"):
                connection.call(stub.Query, database_pb2.QueryRequest(sql=f"SELECT * FROM {table}"))
