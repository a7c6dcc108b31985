"""Where a request comes from: what headers say counts from named proxies only."""

from __future__ import annotations

import pytest

from quakegrid.access import principals
from quakegrid.services.web.access import cookies, peers
from quakegrid.services.web.access.accounts import HOME, local_path
from quakegrid.services.web.access.peers import Peer
from quakegrid.settings.web.access import WebAccess, WebProxy

ACCESS = WebAccess(
    proxies=(WebProxy("10.0.0.5"), WebProxy("10.0.0.6"), WebProxy("127.0.0.1", "www-data")),
    proxy_user_header="x-remote-user",
)
SPOOF = {"x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https", "x-remote-user": "ada"}


def read(
    address: str, headers: dict[str, str] = SPOOF, access: WebAccess = ACCESS, account: str = "anna"
) -> Peer:
    """Where a request comes from over plain HTTP."""
    return peers.read(address, headers, access, is_tls=False, account=lambda: account)


@pytest.mark.parametrize(
    "address", ["10.0.0.7", "127.0.0.1", "::1", "198.51.100.1", "testclient", "2001:db8::5"]
)
def test_headers_of_others_say_nothing(address: str) -> None:
    """Whoever they are; on this machine the account counts, too."""
    assert read(address) == Peer(address, is_secure=False)
    assert read("10.0.0.5", access=WebAccess()) == Peer("10.0.0.5", is_secure=False)


@pytest.mark.parametrize("address", ["10.0.0.5", "::ffff:10.0.0.5", "127.0.0.1"])
def test_named_proxy_is_believed(address: str) -> None:
    """Also where version 6 carries version 4; its own requests are not those of a person of this machine."""
    found = read(address, account="www-data")

    assert found == Peer("198.51.100.1", is_secure=True, is_proxy=True, user="ada")
    assert not found.is_here


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("", "10.0.0.5"),
        ("6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("198.51.100.1, 10.0.0.6", "198.51.100.1"),
        ("198.51.100.1, 10.0.0.6, 10.0.0.5", "198.51.100.1"),
        ("127.0.0.1", "10.0.0.5"),
        ("nonsense", "10.0.0.5"),
        ("10.0.0.6", "10.0.0.5"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_last_foreign_address_counts(told: str, address: str) -> None:
    """What is before it in the list, anybody may have written."""
    assert read("10.0.0.5", {"x-forwarded-for": told}) == Peer(address, is_secure=False, is_proxy=True)


def test_header_of_people_counts_if_it_is_named() -> None:
    """Else the proxy says only from where somebody asks."""
    silent = WebAccess(proxies=ACCESS.proxies)

    assert read("10.0.0.5", access=silent).user == ""
    assert read("10.0.0.5", {"x-remote-user": " ada "}).user == "ada"


def test_process_of_this_machine_is_known_by_the_kernel() -> None:
    """On loopback, as itself."""
    assert read("127.0.0.1").is_here
    assert not read("10.0.0.9").is_here
    assert peers.read("10.0.0.9", {}, ACCESS, is_tls=True, account=str).is_secure


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", ""),
        ("sessionid=a", "a"),
        ("csrftoken=x; sessionid=a ; y", "a"),
        ("sessionid=a; sessionid=a", "a"),
        ("sessionid=a; sessionid=b", ""),
        ("Sessionid=a", ""),
        ("sessionid", ""),
    ],
)
def test_cookie_is_read(text: str, token: str) -> None:
    """One of them, or none."""
    assert cookies.read({"cookie": text}, is_secure=False) == token
    assert cookies.read({"cookie": text.replace("sessionid", "__Host-sessionid")}, is_secure=True) == token
    assert cookies.read({"cookie": text}, is_secure=True) == ""
    assert cookies.read({}, is_secure=True) == ""


def test_cookie_is_closed_to_scripts_and_other_sites() -> None:
    """And to plain HTTP where there is TLS."""
    assert cookies.begin("a", is_secure=True) == "__Host-sessionid=a; HttpOnly; Path=/; SameSite=Lax; Secure"
    assert cookies.begin("a", is_secure=False) == "sessionid=a; HttpOnly; Path=/; SameSite=Lax"
    assert "Max-Age=0" in cookies.end(is_secure=True)


@pytest.mark.parametrize("path", ["/", "/cluster", "/calculations/7?find=a%20b#log"])
def test_local_paths_are_kept(path: str) -> None:
    """For those who come back after a login."""
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "//evil", "/\\evil", "http://evil", "/a\nb", "/é", "evil", "/" + "a" * 2000]
)
def test_other_paths_lead_home(path: str) -> None:
    """Whatever a link says."""
    assert local_path(path) == HOME


def test_line_of_the_asker_says_nothing_before_that_of_the_proxy() -> None:
    """Some proxies add a line of their own behind it; two names are nobody's."""
    lines = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-remote-user", "admin"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-remote-user", "ada"),
    ]

    found = read("10.0.0.5", peers.joined(lines))

    assert (found.address, found.user) == ("198.51.100.1", "admin, ada")
    assert not principals.is_name(found.user)
