"""How many files a service may have open, and what it says when these are too few."""

from __future__ import annotations

import resource

import pytest

from quakegrid.machine import open_files
from quakegrid.machine.open_files import FILES_AT_REST, FileNeeds


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limit of this process, which the test sets."""
    found = [FILES_AT_REST + 2 * 64]
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _kind: (found[0], found[0]))
    return found


@pytest.mark.usefixtures("limit")
def test_number_of_cores_that_fits_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Up to the last file."""
    FileNeeds("the connections", 2).look(64)

    assert not caplog.messages


@pytest.mark.usefixtures("limit")
def test_cores_that_do_not_fit_are_told_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """Again only when there are more than ever."""
    needs = FileNeeds("the connections", 2)
    for core_count in (65, 10, 65, 66):
        needs.look(core_count)

    assert [message.partition(" reason")[0] for message in caplog.messages] == [
        f"few_open_files limit={FILES_AT_REST + 128} needed={FILES_AT_REST + 2 * count}" for count in (65, 66)
    ]
    assert "the connections of 65 cores" in caplog.messages[0]
    assert "LimitNOFILE" in caplog.messages[0]


def test_no_limit_is_enough(limit: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """`ulimit -n unlimited`, as some systems have it."""
    limit[0] = resource.RLIM_INFINITY

    FileNeeds("the connections", 2).look(1_000_000)

    assert not caplog.messages
