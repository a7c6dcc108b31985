"""Until when the certificates count that the web service shows."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.services.web.access.tls import LIFE, TlsDoor
from quakegrid.settings import authkeys, config
from quakegrid.settings.config import Settings
from quakegrid.settings.web.access import WebAccess
from quakegrid.transport import credentials

DAY = datetime.timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a service that listens everywhere, with an authkey before the one that counts."""
    key = authkeys.new_authkey()
    made = config.load_settings(tmp_path, {"QUAKEGRID_ONLY_CONFIG": "", "HOME": str(tmp_path)})
    return replace(made, web_listen="0.0.0.0", authkey=key, old_authkey_until_s=time.time() + 60)


def test_own_certificate_is_renewed(settings: Settings) -> None:
    """Its authority counts as long as the authkey of which it is made."""
    own, authority, former = TlsDoor(settings).ends

    assert own.is_renewed
    assert own.end_s == pytest.approx(time.time() + LIFE.total_seconds(), abs=60)
    assert (authority.what, authority.end_s) == ("authority", None)
    assert former.end_s == settings.old_authkey_until_s
    now_s = time.time()
    assert [each.as_json(now_s)["is_soon"] for each in (own, authority, former)] == [False, False, True]


def test_certificate_of_a_site_ends_with_its_authority(settings: Settings, tmp_path: Path) -> None:
    """The files are read; an end that is near is told."""
    now_time = datetime.datetime.now(datetime.UTC)
    authority = credentials.authority(settings.authkey)
    made = authority.certify_web(["localhost"], now_time, now_time + DAY)
    (tmp_path / "web.key").write_bytes(made.key_pem)
    (tmp_path / "web.pem").write_bytes(made.certificate_pem + authority.ca_pem(now_time, now_time + 90 * DAY))
    access = WebAccess(certificate=str(tmp_path / "web.pem"), private_key=str(tmp_path / "web.key"))
    site = replace(settings, web_access=access)

    own, above = TlsDoor(site).ends

    assert own.end_s == pytest.approx((now_time + DAY).timestamp(), abs=1)
    assert above.end_s is not None
    assert above.end_s >= own.end_s
    assert own.as_json(time.time())["is_soon"]
    assert not own.is_renewed
    (tmp_path / "web.pem").write_text("no certificate")
    with pytest.raises(errors.SettingsError, match="cannot be used"):
        TlsDoor(site)
