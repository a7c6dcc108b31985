"""Which commands and URLs can be told of the end of a job, and how logs name them."""

from __future__ import annotations

import pytest

from quakegrid.errors import UsageError
from quakegrid.notify import targets
from quakegrid.settings import conversions


@pytest.mark.parametrize(
    ("target", "is_url", "described"),
    [
        ("mail -s done anna", False, "mail -s done anna"),
        ("x" * 200, False, "x" * 79 + "…"),
        ("https://hooks.example.org/services/SECRET", True, "https://hooks.example.org/…"),
        ("HTTP://u:p@localhost:8080", True, "http://localhost/…"),
        ("http_post", False, "http_post"),
    ],
)
def test_targets_and_their_names_in_logs(target: str, is_url: bool, described: str) -> None:
    """The path of a URL is often a secret."""
    assert targets.check(target) == target
    assert targets.is_url(target) is is_url
    assert targets.described(target) == described


@pytest.mark.parametrize(
    "target",
    [
        "",
        "  ",
        "a\0b",
        "x" * 5000,
        "https://",
        "http:///path",
        "http://a b",
        "http://h:99999",
        "http://[x",
        "http://h/SECRET\x01",
    ],
)
def test_targets_that_cannot_be_told_are_refused(target: str) -> None:
    """In words."""
    with pytest.raises(UsageError):
        targets.check(target)
    assert targets.described(target) is not None
    assert not conversions.is_web_address(target)  # which `[notify] url` of openquake.cfg has to be


@pytest.mark.parametrize(
    ("url", "place", "login"),
    [
        ("https://chat.example.org/hook?a=b@c", "https://chat.example.org/hook?a=b@c", ""),
        ("http://bot:p%40ss@127.0.0.1:8080/hook", "http://127.0.0.1:8080/hook", "Basic Ym90OnBAc3M="),
        ("http://token@h/hook", "http://h/hook", "Basic dG9rZW46"),  # "token:", as curl sends it
        ("http://@h/hook", "http://h/hook", ""),
    ],
)
def test_name_and_password_of_a_url_travel_in_a_header(url: str, place: str, login: str) -> None:
    """HTTP has no other place for them, and Python took the password for a port, and said so in the log."""
    assert targets.split_login(url) == (place, login)
