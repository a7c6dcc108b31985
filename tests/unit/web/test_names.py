"""Names of files that people send."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakegrid.errors import UsageError
from quakegrid.services.web.uploads import names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("job.ini", "job.ini"),
        ("a/b/job.ini", "a/b/job.ini"),
        ("a\\b\\job.ini", "a/b/job.ini"),
        ("./a//job.ini", "a/job.ini"),
        ("exposición.xml", "exposición.xml"),
        ("..a/b..", "..a/b.."),
    ],
)
def test_name_becomes_a_relative_path(name: str, path: str) -> None:
    """With the separators of this system."""
    assert names.checked(name) == path


@pytest.mark.parametrize(
    "name",
    ["", ".", "/", "/etc/passwd", "..", "../x", "a/../../x", "a\\..\\x", "C:\\x", "c:x", "a\0b", "a\nb",
     "\\\\host\\x", "a" * 256, "/".join(["a"] * 33), "/".join(["a" * 200] * 6), "\udc80"],
)  # fmt: skip
def test_name_that_leads_elsewhere_is_refused(name: str) -> None:
    """In words that can be printed anywhere."""
    with pytest.raises(UsageError) as caught:
        names.checked(name)

    assert str(caught.value).replace("…", "").isascii()


@given(st.text(max_size=80))
def test_any_name_stays_inside_or_is_refused(name: str) -> None:
    """Whatever it is."""
    try:
        path = names.checked(name)
    except UsageError:
        return

    joined = posixpath.normpath(posixpath.join("/folder", path))
    assert joined.startswith("/folder/")
    assert "\0" not in path
