"""Who may use the web service: what `[web]` may say, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.errors import SettingsError
from quakegrid.settings.reader import Reader
from quakegrid.settings.web.access import WebAccess, WebMode, WebProxy, read_web_access


def read(tmp_path: Path, lines: str) -> WebAccess:
    """The settings of a file."""
    path = tmp_path / "openquake.cfg"
    path.write_text(f"[web]\n{lines}\n")
    return read_web_access(Reader(tmp_path, [path]).parse)


def test_nothing_is_open_by_default(tmp_path: Path) -> None:
    """On loopback the kernel's word counts; beyond it people log in, over TLS."""
    found = read(tmp_path, "")

    assert found == WebAccess()
    assert found.mode_at("127.0.0.1") is WebMode.PUBLIC
    assert found.mode_at("0.0.0.0") is WebMode.RESTRICTED
    assert (found.is_tls_at("::1"), found.is_tls_at("0.0.0.0")) == (False, True)
    assert found.fault == ""


def test_all_of_it_is_read(tmp_path: Path) -> None:
    """Names in lower case, lists with commas or without."""
    found = read(
        tmp_path,
        "mode = read_only\nhosts = Quakes.Example, [::1]\norigins = https://maps.example/ http://a:8080\n"
        "certificate = /c.pem\nprivate_key = /k.pem\nproxies = 10.0.0.5 www-data@127.0.0.1, 2001:DB8::5\n"
        "proxy_user_header = X-Remote-User",
    )

    assert found == WebAccess(
        WebMode.READ_ONLY,
        ("quakes.example", "[::1]"),
        ("https://maps.example", "http://a:8080"),
        "/c.pem",
        "/k.pem",
        (WebProxy("10.0.0.5"), WebProxy("127.0.0.1", "www-data"), WebProxy("2001:db8::5")),
        "x-remote-user",
    )
    assert found.mode_at("127.0.0.1") is WebMode.READ_ONLY
    assert found.is_tls_at("127.0.0.1")
    assert not WebAccess(proxies=found.proxies).is_tls_at("0.0.0.0")


@pytest.mark.parametrize(
    "line", ["mode = OPEN", "hosts = a b*", "hosts = http://a", "origins = *", "origins = maps.example",
             "certificate = c.pem", "proxies = 127.0.0.1", "proxies = ::1", "proxies = root@10.0.0.5",
             "proxies = proxy.example", "proxies = 10.0.0.0/8", "proxies = a b@127.0.0.1",
             "proxy_user_header = X Y"]
)  # fmt: skip
def test_what_is_not_allowed_is_refused(tmp_path: Path, line: str) -> None:
    """A proxy on this machine is an account's: others reach the port from the same address."""
    with pytest.raises(SettingsError, match=r"\[web\]"):
        read(tmp_path, line)


def test_what_does_not_fit_together_is_said() -> None:
    """With what to do."""
    assert "belong together" in WebAccess(certificate="/c").fault
    assert "belong together" in WebAccess(private_key="/k").fault
    assert "name the addresses" in WebAccess(proxy_user_header="x").fault
