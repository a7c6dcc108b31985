"""What must not work at the doors of the web service, whoever tries it."""

from __future__ import annotations

import datetime
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from quakegrid.access import web_tokens
from quakegrid.clients.web_tokens import WebTokensClient
from quakegrid.transport.keys import web_token_keys
from tests.integration.web.logins.conftest import PASSWORD, TIMEOUT_S, Team

HOUR = datetime.timedelta(hours=1)


def test_cookie_from_before_a_login_is_not_taken_over(team: Team) -> None:
    """Session fixation: a login begins a new session, and ends the one that the browser had."""
    with team.log_in("ben") as planted, team.ask() as web:
        fixed = planted.cookies["__Host-sessionid"]
        web.cookies.set("__Host-sessionid", fixed, domain="localhost.local")

        answer = web.post(
            "/accounts/ajax_login/",
            data={"username": "anna", "password": PASSWORD},
            headers={"Cookie": f"__Host-sessionid={fixed}"},
        )

        assert answer.cookies["__Host-sessionid"] != fixed
        assert planted.get("/v1/calc/list").status_code == 403


def test_forged_cookies_reach_no_database(team: Team) -> None:
    """Neither one of another key, nor one of the right key that nobody has given out."""
    secret = b"s" * web_tokens.SECRET_BYTES
    forged = web_tokens.to_text(secret, b"k" * 32)
    unknown = web_tokens.to_text(secret, web_token_keys.signing_key(team.settings.authkey))
    with team.log_in("anna") as web:
        own = web.cookies["__Host-sessionid"]
    changed = own[:-1] + ("A" if own[-1] != "A" else "B")
    for cookie in (forged, unknown, changed, "x", "", own.lower(), f"{own}{own}", web_tokens.id_of(own)):
        with team.ask(Cookie=f"__Host-sessionid={cookie}") as web:
            assert web.get("/v1/calc/list").status_code == 403, cookie
    with team.ask(Cookie=f"__Host-sessionid={own}; __Host-sessionid={forged}") as web:
        assert web.get("/v1/calc/list").status_code == 403


def test_session_is_no_token_and_link_is_no_cookie(team: Team) -> None:
    """A link in a log or a history is of no other use."""
    link, _ = WebTokensClient(team.client).create("", HOUR, is_single_use=True, user_name="anna")
    with team.ask(link) as web:
        assert web.get("/v1/calc/list").status_code == 401
    with team.ask(Cookie=f"__Host-sessionid={link}") as web:
        assert web.get("/v1/calc/list").status_code == 403


def test_link_counts_once_also_for_many_at_once(team: Team) -> None:
    """Of those who open it side by side, one is let in."""
    link, _ = WebTokensClient(team.client).create("", HOUR, is_single_use=True, user_name="anna")

    def open_it(_number: int) -> int:
        with team.ask() as web:
            return web.get(f"/login?token={link}").status_code

    with ThreadPoolExecutor(8) as threads:
        codes = sorted(threads.map(open_it, range(16)))

    assert codes == [303] + 15 * [403]


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "data:x",
               "/a\r\nSet-Cookie: __Host-sessionid=x", "/ä", "", "evil", "/a" * 1500]
)  # fmt: skip
def test_login_leads_to_own_pages_only(team: Team, target: str) -> None:
    """Open redirects: whatever the address says."""
    with team.ask() as web:
        fields = {"username": "anna", "password": PASSWORD, "next": target}
        answer = web.post("/accounts/login/", data=fields)
        shown = web.get("/accounts/login/", params={"next": f'{target}"><script>'})
    assert answer.headers["location"] == "/calculations"
    assert answer.headers.get_list("set-cookie") == [answer.headers["set-cookie"]]
    assert "<script" not in shown.text


@pytest.mark.full
def test_flood_of_logins_is_slowed_down(team: Team) -> None:
    """An address that guesses has to wait; others log in meanwhile, and no thread is blocked."""
    source = "203.0.113.66"

    def guess(number: int) -> int:
        with team.ask(source=source) as web:
            fields = {"username": f"guess{number}", "password": "wrong password"}
            return web.post("/accounts/ajax_login/", data=fields).status_code

    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(guess, range(60)))

    assert codes.count(403) <= 25  # those that cost no wait, and a few as time passes
    assert codes.count(429) == 60 - codes.count(403)
    with team.log_in("anna", "203.0.113.67") as web:
        assert web.get("/v1/calc/list").status_code == 200


def test_body_of_a_login_is_small(team: Team) -> None:
    """Megabytes of password would be hashed otherwise."""
    with team.ask() as web:
        large = {"username": "anna", "password": "x" * 10_000}
        assert web.post("/accounts/ajax_login/", data=large).status_code == 413
        assert web.post("/accounts/ajax_login/", data={"username": "anna"}).status_code == 403
        assert web.get("/accounts/ajax_login/").status_code == 405


def test_no_secret_is_in_any_log_or_table(team: Team) -> None:
    """No password, cookie, token or link; what the database has of them cannot be used."""
    tokens = WebTokensClient(team.client)
    token, _ = tokens.create("", HOUR, user_name="anna")
    link, _ = tokens.create("", HOUR, is_single_use=True, user_name="anna")
    with team.log_in("anna") as web:
        secrets = [PASSWORD, token, link, web.cookies["__Host-sessionid"]]
        web.get(f"/login?token={link}")
        web.get("/v1/calc/list?token=" + token)
        web.post("/accounts/ajax_login/", data={"username": PASSWORD, "password": "wrong password"})
    with team.ask(token) as web:
        web.get("/v1/nothing")
    logs = "".join(path.read_text(errors="replace") for path in team.settings.state_dir.glob("*.log"))
    with closing(sqlite3.connect(team.settings.database, timeout=TIMEOUT_S)) as database:
        tables = "\n".join(database.iterdump())

    assert "logged_in way=password name=anna" in logs
    assert [secret for secret in secrets if secret in logs] == []
    in_tables = [secret for secret in (*secrets, token[4:20]) if secret in tables]
    assert in_tables == []


def test_calculation_of_others_is_compared_with_none(team: Team) -> None:
    """Whichever of the two it is; with a shared one the own one is. The fleet and its events are for all."""
    own, other, shared = (team.jobs[name] for name in ("own", "other", "shared"))
    with team.log_in("anna") as web:
        for one, two in ((own, other), (other, own), (shared, other)):
            answer = web.get(f"/calculations/{one}/compare/{two}.json")
            assert (answer.status_code, "belongs to ben" in answer.text) == (403, True)

        found = web.get(f"/calculations/{own}/compare/{shared}.json").json()
        assert [job["user_name"] for job in found["calculations"]] == ["anna", "ben"]
        assert "cannot be compared" in found["words"]
        for kind in ("fleet", "events"):
            assert web.get(f"/live/{kind}.json").json()["is_connected"] is False
