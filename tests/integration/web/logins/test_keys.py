"""The authkey changes while people are logged in."""

from __future__ import annotations

import datetime
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from quakegrid.access.principals import PrincipalRole
from quakegrid.access.proofs import ClusterKeys
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.clients.web.tokens import CommandToken
from quakegrid.install import key_rotation
from quakegrid.transport import credentials
from tests.integration.web.logins import conftest
from tests.integration.web.logins.conftest import DAY, PASSWORD, TIMEOUT_S
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

NEW = "a-new-key-of-this-cluster-that-nobody-guesses"


def trust_in(authkey: str) -> ssl.SSLContext:
    """What trusts in the authority of a key alone."""
    now_time = datetime.datetime.now(datetime.UTC)
    return ssl.create_default_context(
        cadata=credentials.authority(authkey).ca_pem(now_time, now_time + DAY).decode()
    )


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.full
def test_sessions_and_trust_go_on_while_the_old_key_counts(tmp_path: Path) -> None:
    """Who trusts in the old authority is led to the new one; when the old key ends, so do sessions."""
    settings = conftest.write_settings(tmp_path, "listen = 0.0.0.0\n")
    dbserver, service = LocalDbServer(settings), Service(settings, "web")
    path = settings.state_dir / "openquake.cfg"
    assert settings.keyring is not None
    old, until_time = settings.authkey, datetime.datetime.now(datetime.UTC) + DAY

    def status(authkey: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        address = f"https://localhost:{settings.web_port}"
        with httpx.Client(base_url=address, verify=trust_in(authkey), timeout=TIMEOUT_S) as web:
            try:
                return web.get("/v1/calc/list", headers=headers).status_code
            except httpx.ConnectError:
                return 0

    try:
        dbserver.start()
        service.start()
        with DbClient(settings) as client:
            PeopleClient(client).set_password("anna", PASSWORD, PrincipalRole.USER)
        token = CommandToken(settings).text()
        assert (status(old, token), status(NEW, token)) == (200, 0)

        key_rotation.rotate(path, old, NEW, until_time)
        settings.keyring.keys = ClusterKeys(NEW, old, until_time.timestamp())

        wait_until(lambda: status(NEW, token) == 200)
        assert status(old, token) == 200
        newer = CommandToken(settings).text()
        assert status(old, newer) == 200

        newest = f"{NEW}-and-newer"
        key_rotation.rotate(path, NEW, newest, datetime.datetime.now(datetime.UTC))
        settings.keyring.keys = ClusterKeys(newest)
        last = CommandToken(settings).text()
        wait_until(lambda: status(newest, last) == 200)
        assert status(newest, token) == status(newest, newer) == 401
    finally:
        service.close()
        dbserver.close()
