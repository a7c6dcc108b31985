"""What every request passes, for callers from anywhere, in each mode."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.services.web import callers
from quakegrid.services.web.access import cookies
from quakegrid.services.web.access.gate import Gate
from quakegrid.services.web.callers import Caller, Way
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.settings.web.access import WebAccess, WebMode, WebProxy

ELSEWHERE, PROXY = "198.51.100.9", "10.0.0.5"
ANNA = Caller(None, "anna", PrincipalRole.USER, Way.COOKIE)
GOOD = f"{cookies.SECURE_NAME}=good"
TEAM = WebAccess(WebMode.RESTRICTED, hosts=("quakes.example",))


@dataclass
class FakeLogins:
    """Knows one cookie."""

    is_down: bool = False
    person: Caller = ANNA
    asked: list[str] = field(default_factory=list)

    async def find(self, token: str) -> Caller | None:
        """Who shows a token."""
        self.asked.append(token)
        if self.is_down:
            raise errors.PeerUnreachableError("the dbserver does not answer")
        return self.person if token == "good" else None

    def holding(self, _token: str, _stream: object) -> Any:
        """Nothing ends here."""
        import contextlib

        return contextlib.nullcontext()


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    """Of a service that listens everywhere."""
    made = config.load_settings(tmp_path, {"QUAKEGRID_ONLY_CONFIG": "", "HOME": str(tmp_path)})
    return replace(made, web_listen="0.0.0.0", web_port=8800, web_access=TEAM)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str


def ask(
    settings: Settings,
    path: str = "/v1/calc/list",
    *,
    source: str = ELSEWHERE,
    scheme: str = "https",
    logins: FakeLogins | None = None,
    **headers: str,
) -> Answer:
    """The answer to one request; header names have underscores. What is let in is told who it is."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        caller = Request(scope).state.caller
        text = f"{caller.name} {caller.role} {caller.way}" if caller else "nobody"
        await PlainTextResponse(f"{text} {scope['scheme']}")(scope, receive, send)

    given = {"Host": "quakes.example:8800"} | {name.replace("_", "-"): each for name, each in headers.items()}
    sent: list[Any] = []

    async def run() -> None:
        scope = {
            "type": "http", "method": given.pop("method", "GET"), "path": path, "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "scheme": scheme,
            "client": (source, 51514), "server": ("10.0.0.1", 8800), "state": {},
        }  # fmt: skip

        async def send(message: Any) -> None:
            sent.append(message)

        gate = Gate(told, settings, logins or FakeLogins(), {}, {})  # type: ignore[arg-type]
        await gate(scope, None, send)  # type: ignore[arg-type]

    asyncio.run(run())
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(each["body"] for each in sent[1:]).decode())


def test_restricted_lets_in_who_is_known(settings: Settings) -> None:
    """By a cookie that counts, and nobody else."""
    assert ask(settings).status == 403
    assert ask(settings, Cookie=f"{cookies.SECURE_NAME}=bad").status == 403
    assert ask(settings, Cookie=GOOD).body == "anna user cookie https"
    assert ask(settings, Cookie="sessionid=good").status == 403
    assert ask(settings, Authorization="Bearer good").status == 200
    assert ask(settings, Authorization="Bearer bad").status == 401
    assert ask(settings, Authorization="Basic good").status == 403


@pytest.mark.parametrize("way", [Way.COOKIE, Way.TOKEN, Way.PROXY])
@pytest.mark.parametrize("name", ["root", callers.own_name()])
def test_name_of_the_services_is_nobodys_from_elsewhere(settings: Settings, name: str, way: Way) -> None:
    """Their calculations run as the services' account, whose secret admins may have anyway."""
    person = Caller(None, name, PrincipalRole.OPERATOR, way)
    found = ask(settings, logins=FakeLogins(person=person), Cookie=GOOD)

    assert (found.status, found.body[: len(name)]) == (403, name)
    assert "only an admin" in found.body
    assert ask(settings, "/login", logins=FakeLogins(person=person), Cookie=GOOD).body == "nobody https"
    admin = replace(person, role=PrincipalRole.ADMIN)
    assert ask(settings, logins=FakeLogins(person=admin), Cookie=GOOD).status == 200
    assert callers.may_have_name(Caller(0, name))


def test_open_addresses_need_nobody(settings: Settings) -> None:
    """The login, its style, and the sign of life; also while the dbserver is away."""
    down = FakeLogins(is_down=True)
    for path in ("/health", "/login", "/accounts/login/", "/static/style.css"):
        assert ask(settings, path).body == "nobody https"
        assert ask(settings, path, logins=down, Cookie=GOOD).status == 200
    for path in ("/healthy", "/v1/calc/list", "/static", "/accounts"):
        assert ask(settings, path).status != 200
    assert ask(settings, logins=down, Cookie=GOOD).status == 503


@pytest.mark.parametrize(("mode", "status"), [(WebMode.PUBLIC, 200), (WebMode.READ_ONLY, 200)])
def test_open_modes_let_in_anybody(settings: Settings, mode: WebMode, status: int) -> None:
    """Where the settings say so; as nobody in particular."""
    found = ask(replace(settings, web_access=replace(TEAM, mode=mode)))

    assert (found.status, found.body) == (status, "anonymous user nobody https")


def test_pages_lead_to_the_login(settings: Settings) -> None:
    """Programs do not."""
    assert ask(settings, "/calculations").headers["location"] == "/accounts/login/?next=/calculations"
    assert ask(settings, "/calculations/7/report.json").status == 403
    assert ask(settings, "/live/jobs").status == 403
    assert ask(settings, "/calculations", method="POST", Content_Length="0").status == 403


def test_plain_http_from_elsewhere_is_refused_in_words(settings: Settings) -> None:
    """Where proxies speak TLS; theirs is let in, and so are their words."""
    access = replace(TEAM, proxies=(WebProxy(PROXY),))
    behind = replace(settings, web_access=access)
    forwarded = {"X_Forwarded_For": "203.0.113.1", "X_Forwarded_Proto": "https", "Cookie": GOOD}

    refused = ask(behind, scheme="http", **forwarded)
    passed = ask(behind, scheme="http", source=PROXY, **forwarded)

    assert (refused.status, passed.status) == (403, 200)
    assert "[web] proxies" in refused.body
    assert passed.body == "anna user cookie https"
    assert ask(behind, scheme="http", source=PROXY, Host="quakes.example", **forwarded).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("quakes.example:8800", 200), ("10.0.0.1:8800", 200), ("localhost:8800", 200), ("quakes.example", 403),
     ("evil.example:8800", 403), ("10.0.0.1:80", 403), ("10.0.0.2:8800", 403)]
)  # fmt: skip
def test_own_names_and_addresses_are_known(settings: Settings, host: str, status: int) -> None:
    """Those of the settings, and the one to which the connection came."""
    assert ask(settings, Host=host, Cookie=GOOD).status == status


def test_origin_has_to_be_of_the_same_kind(settings: Settings) -> None:
    """A page that somebody has changed on its way over plain HTTP is another site's."""
    good = {"Cookie": GOOD}

    assert ask(settings, Origin="https://quakes.example:8800", **good).status == 200
    assert ask(settings, Origin="http://quakes.example:8800", **good).status == 403
