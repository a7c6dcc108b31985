"""People log in from anywhere, see what is theirs or shared, and log out."""

from __future__ import annotations

import datetime
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
import requests

from quakegrid.access.principals import PrincipalRole
from quakegrid.clients.web.tokens import CommandToken
from quakegrid.clients.web_tokens import WebTokensClient
from quakegrid.settings import config
from quakegrid.settings.credential_files import CredentialFile
from tests.integration.web.logins.conftest import DAY, PASSWORD, TIMEOUT_S, Team

HOUR = datetime.timedelta(hours=1)


@contextmanager
def stream(web: httpx.Client, path: str = "/live/jobs") -> Iterator[Iterator[str]]:
    """The lines of server-sent events."""
    with web.stream("GET", path) as response:
        assert response.status_code == 200
        yield response.iter_lines()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def first(lines: Iterator[str], kind: str) -> object:
    """The value of the next event of a kind."""
    for line in lines:
        if line == f"event: {kind}":
            return json.loads(next(lines).removeprefix("data: "))
    raise EOFError(kind)


def test_anonymous_learns_that_there_are_logins(team: Team) -> None:
    """QGIS by 403, people by the page on which they log in."""
    with team.ask() as web:
        for path in ("/v1/engine_version", "/v1/calc/list", "/live/jobs", "/cluster/health.json"):
            assert web.get(path).status_code == 403, path
        page = web.get("/calculations?find=a%20b")
        assert (page.status_code, page.headers["location"]) == (
            303, "/accounts/login/?next=/calculations%3Ffind%3Da%2520b",
        )  # fmt: skip
        assert web.get("/health").text == "ok"
        assert web.get("/static/style.css").status_code == 200
        assert web.get("/accounts/me.json").json() == {
            "name": None, "role": None, "way": None, "mode": "RESTRICTED",
        }  # fmt: skip


def test_login_of_qgis_works(team: Team) -> None:
    """Text and status of the engine's server, and a cookie that scripts of pages cannot read."""
    with team.ask() as web:
        wrong = web.post("/accounts/ajax_login/", data={"username": "anna", "password": "wrong"})
        assert (wrong.status_code, wrong.text, wrong.headers.get("set-cookie")) == (
            403,
            "Invalid login",
            None,
        )

        right = web.post("/accounts/ajax_login/", data={"username": "anna", "password": PASSWORD})

        assert (right.status_code, right.text) == (200, "Successful login")
        name, *attributes = right.headers["set-cookie"].split("; ")
        assert name.startswith("__Host-sessionid=qgw_")
        assert set(attributes) == {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"}
        assert [job["id"] for job in web.get("/v1/calc/list").json()] == [
            team.jobs["shared"],
            team.jobs["own"],
        ]
        assert web.get("/accounts/me.json").json()["role"] == "user"

        gone = web.post("/accounts/ajax_logout/")
        assert (gone.status_code, gone.text) == (200, "Successful logout")
        assert web.get("/v1/calc/list").status_code == 403


def test_web_extractor_logs_in(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests that the engine's own client makes, with the library that it uses."""
    trusted = team.settings.state_dir.parent / "ca.pem"
    certificates = team.trust.get_ca_certs(binary_form=True)
    trusted.write_text("".join(map(ssl.DER_cert_to_PEM_cert, certificates)))
    headers = {"X-Forwarded-For": "203.0.113.8"}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    with requests.Session() as session:
        login = session.post(
            f"{team.address}/accounts/ajax_login/",
            data={"username": "anna", "password": PASSWORD},
            headers=headers,
            timeout=TIMEOUT_S,
        )
        assert login.status_code == 200
        path = f"/v1/calc/{team.jobs['own']}/status"
        found = session.get(f"{team.address}{path}", headers=headers, timeout=TIMEOUT_S)
    assert found.json()["owner"] == "anna"


def test_page_logs_in_and_goes_on(team: Team) -> None:
    """To where one wanted to go, and back to the login after a logout."""
    with team.ask() as web:
        page = web.get("/accounts/login/?next=/cluster")
        assert '<input type="hidden" name="next" value="/cluster">' in page.text
        fields = {"username": "anna", "password": "wrong", "next": "/cluster"}

        wrong = web.post("/accounts/login/", data=fields)
        right = web.post("/accounts/login/", data=fields | {"password": PASSWORD})

        assert wrong.status_code == 403
        assert "The name or the password is wrong." in wrong.text
        assert (right.status_code, right.headers["location"]) == (303, "/cluster")
        assert web.get("/calculations").status_code == 200
        out = web.post("/accounts/logout/")
        assert (out.status_code, out.headers["location"]) == (303, "/accounts/login/")
        assert web.get("/calculations").status_code == 303


def test_user_follows_own_and_shared_jobs_only(team: Team) -> None:
    """In the list, and as they change."""
    with team.log_in("anna") as web, stream(web) as lines:
        shown = first(lines, "jobs")
        assert isinstance(shown, dict)
        seen = {job["id"] for job in shown["jobs"]}
        assert {team.jobs["own"], team.jobs["shared"]} <= seen
        assert team.jobs["other"] not in seen
        assert {job["id"] for job in web.get("/live/jobs.json").json()["jobs"]} == seen

        team.client.call("share_job", team.jobs["other"], True)
        changed = first(lines, "job")
        team.client.call("share_job", team.jobs["other"], False)
        gone = first(lines, "gone")

    assert isinstance(changed, dict)
    assert changed["id"] == team.jobs["other"]
    assert gone == {"id": team.jobs["other"]}


def test_logout_ends_streams_at_once(team: Team) -> None:
    """In other windows of the same session, too; those of other sessions go on."""
    with team.log_in("anna") as web, team.log_in("anna") as other, stream(other) as going_on:
        first(going_on, "jobs")
        with stream(web) as lines:
            first(lines, "jobs")

            web.post("/accounts/ajax_logout/")

            for _ in lines:  # until it ends
                pass
        assert other.get("/v1/calc/list").status_code == 200


def test_revoked_person_is_out_at_once(team: Team) -> None:
    """With cookie, token and stream; the password counts no more."""
    team.people.set_password("rudi", PASSWORD, PrincipalRole.USER)
    token, _ = WebTokensClient(team.client).create("", HOUR, user_name="rudi")
    with team.log_in("rudi", "203.0.113.9") as web, team.ask(token) as program, stream(web) as lines:
        first(lines, "jobs")
        assert program.get("/v1/calc/list").status_code == 200

        team.people.revoke("rudi")

        for _ in lines:
            pass
        wait_until(lambda: web.get("/v1/calc/list").status_code == 403)
        wait_until(lambda: program.get("/v1/calc/list").status_code == 401)
        again = web.post("/accounts/ajax_login/", data={"username": "rudi", "password": PASSWORD})
        assert again.status_code == 403


def test_token_works_for_programs(team: Team) -> None:
    """And says in words when it does not."""
    token, made = WebTokensClient(team.client).create("nightly", HOUR, user_name="nils")
    with team.ask(token) as web:
        assert web.get("/accounts/me.json").json() == {
            "name": "nils", "role": "admin", "way": "token", "mode": "RESTRICTED",
        }  # fmt: skip
        WebTokensClient(team.client).revoke(made.id)
        wait_until(lambda: web.get("/v1/calc/list").status_code == 401)
        answer = web.get("/v1/calc/list")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "revoked" in answer.json()["error"]


def test_link_logs_in_once(team: Team) -> None:
    """A second use is refused, and so is one that another site leads to."""
    link, _ = WebTokensClient(team.client).create("link", HOUR, is_single_use=True, user_name="anna")
    with team.ask() as web, team.ask() as thief:
        led = thief.get(f"/login?token={link}", headers={"Sec-Fetch-Site": "cross-site"})
        assert led.status_code == 403

        opened = web.get(f"/login?token={link}&next=/cluster")

        assert (opened.status_code, opened.headers["location"]) == (303, "/cluster")
        assert web.get("/accounts/me.json").json()["name"] == "anna"
        again = thief.get(f"/login?token={link}")
        assert again.status_code == 403
        assert "The link does not count" in again.text
        assert "set-cookie" not in again.headers


def test_proxy_says_who_has_logged_in(team: Team) -> None:
    """With the role that the cluster knows, else as a user."""
    with team.ask(X_Remote_User="otto") as web:
        assert web.get("/accounts/me.json").json() | {"mode": ""} == {
            "name": "otto", "role": "operator", "way": "proxy", "mode": "",
        }  # fmt: skip
    with team.ask(X_Remote_User="nobody-knows-me") as web:
        assert web.get("/accounts/me.json").json()["role"] == "user"
    team.people.set_password("lars", PASSWORD, PrincipalRole.USER)
    with team.ask(X_Remote_User="lars") as web:
        assert web.get("/v1/calc/list").status_code == 200
        team.people.revoke("lars")
        wait_until(lambda: web.get("/v1/calc/list").status_code == 403)
    with team.ask(X_Remote_User="-x y") as web:
        assert web.get("/v1/calc/list").status_code == 403


def test_pages_of_named_sites_ask_with_tokens(team: Team) -> None:
    """Neither with a cookie nor by what else is known of the browser."""
    origin = {"Origin": "https://maps.example"}
    token, _ = WebTokensClient(team.client).create("", HOUR, user_name="anna")
    with team.ask(token) as web:
        found = web.get("/v1/calc/list", headers=origin)
        assert (found.status_code, found.headers["access-control-allow-origin"]) == (
            200,
            "https://maps.example",
        )
        assert "access-control-allow-credentials" not in found.headers
    with team.log_in("anna") as web:
        assert web.get("/v1/calc/list", headers=origin).status_code == 403
    with team.ask(X_Remote_User="ada") as web:
        assert web.get("/v1/calc/list", headers=origin).status_code == 403
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    with team.ask() as web:
        before = web.options("/v1/calc/list", headers=origin | asks)
        other = web.options("/v1/calc/list", headers={"Origin": "https://evil.example"} | asks)
    assert "authorization" in before.headers["access-control-allow-headers"]
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


def test_answers_protect_browsers(team: Team) -> None:
    """Also those that refuse; the site's own certificate is meant for good."""
    with team.ask() as web:
        for path in ("/v1/calc/list", "/accounts/login/", "/health"):
            headers = web.get(path).headers
            assert headers["strict-transport-security"].startswith("max-age=")
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["referrer-policy"] == "same-origin"


@pytest.mark.full
def test_session_goes_on_after_a_restart_of_the_web(team: Team) -> None:
    """The database has it."""
    with team.log_in("anna") as web:
        assert team.service.stop() == 0
        team.service.start()
        assert web.get("/v1/calc/list").status_code == 200


def test_token_outlives_no_credential(team: Team) -> None:
    """A credential that is revoked takes its tokens along."""
    issued, proof = team.people.issue("carl", PrincipalRole.USER, DAY)
    credential = CredentialFile(
        cluster="lab", name="carl", role="user", id=issued.id, end_time=issued.end_time,
        dbserver=team.settings.dbserver_address, broker=team.settings.broker_address, proof=proof,
    )  # fmt: skip
    token = CommandToken(config.settings_of(credential, team.settings.state_dir)).text()
    with team.ask(token) as web:
        assert web.get("/accounts/me.json").json()["name"] == "carl"
        team.people.revoke("carl", issued.id)
        wait_until(lambda: web.get("/v1/calc/list").status_code == 401)


@pytest.mark.parametrize("name", ["otto", "ada"])
def test_operators_see_all(team: Team, name: str) -> None:
    """And may change it."""
    with team.log_in(name) as web:
        seen = {job["id"] for job in web.get("/v1/calc/list").json()}
        assert set(team.jobs.values()) <= seen
        assert web.post(f"/v1/calc/{team.jobs['other']}/share").status_code == 200
        assert web.post(f"/v1/calc/{team.jobs['other']}/unshare").status_code == 200
