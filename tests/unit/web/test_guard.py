"""Which requests the web service refuses before a route sees them."""

from __future__ import annotations

import pytest

from quakegrid.services.web import guard
from quakegrid.services.web.api import tags

HOSTS = guard.known_hosts(guard.HERE, 8800)
GOOD = {"host": "localhost:8800"}


def refused(method: str = "GET", *, is_writing: bool = False, **headers: str) -> str | None:
    """Why a request is refused; header names have underscores."""
    found = GOOD | {name.replace("_", "-"): value for name, value in headers.items()}
    return guard.why_refused(method, found, HOSTS, is_writing=is_writing)


@pytest.mark.parametrize("host", ["localhost:8800", "127.0.0.1:8800", "[::1]:8800", "LOCALHOST:8800"])
def test_own_names_are_let_in(host: str) -> None:
    """Of this machine on loopback, with the port."""
    assert refused(host=host) is None


@pytest.mark.parametrize("host", ["", "evil.example", "localhost", "localhost:80", "evil.example:8800"])
def test_other_names_are_refused(host: str) -> None:
    """A page whose site gives its name our address could read answers otherwise."""
    reason = refused(host=host)

    assert reason is not None
    assert "ask for" in reason


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:8801"])
def test_page_of_another_site_is_refused(origin: str) -> None:
    """Whatever it asks for."""
    assert refused(origin=origin) is not None
    assert refused("POST", origin=origin) is not None


def test_own_page_may_write() -> None:
    """Browsers say where a request comes from."""
    own = {"origin": "http://127.0.0.1:8800", "sec_fetch_site": "same-origin"}

    assert refused("POST", is_writing=True, **own) is None
    assert refused("POST", sec_fetch_site="none") is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_link_on_another_site_changes_nothing(site: str) -> None:
    """It may lead here, but not to an address that writes, also where upstream writes by GET."""
    assert refused(sec_fetch_site=site) is None
    assert refused(sec_fetch_site=site, is_writing=True) is not None
    assert refused("POST", sec_fetch_site=site) is not None


def test_script_says_nothing_of_sites() -> None:
    """QGIS and curl send none of these headers."""
    assert refused("POST", is_writing=True) is None


@pytest.mark.parametrize(
    ("path", "is_writing"),
    [
        ("/v1/calc/7/add_tag/t", True),
        ("/v1/calc/create_tag/t", True),
        ("/v1/calc/unset_preferred_job_for_tag/t", True),
        ("/v1/calc/get_preferred_job_for_tag/t", False),
        ("/v1/calc/list_tags", False),
        ("/v1/calc/7/status", False),
    ],
)
def test_tags_are_written_by_get(path: str, *, is_writing: bool) -> None:
    """As upstream does."""
    assert tags.is_writing(path) is is_writing
