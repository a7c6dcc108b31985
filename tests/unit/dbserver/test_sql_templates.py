"""Upstream's SQL templates."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from quakegrid.errors import UsageError
from quakegrid.services.dbserver.store import sql_templates


@pytest.mark.parametrize(
    ("template", "args", "sql", "parameters"),
    [
        ("SELECT 1", (), "SELECT 1", ()),
        ("-- note\nSELECT * FROM job WHERE id=?x", (1,), "SELECT * FROM job WHERE id=?", (1,)),
        (
            "INSERT INTO ?s (?S) VALUES (?X)",
            ("t", ["a", "b"], [1, 2]),
            "INSERT INTO t (a, b) VALUES (?, ?)",
            (1, 2),
        ),
        ("UPDATE t SET ?D WHERE id=?x", ({"b": 1, "a": 2}, 3), "UPDATE t SET a=?, b=? WHERE id=?", (2, 1, 3)),
        ("SELECT ?A", ({"b": None, "a": 5},), "SELECT a=? AND b IS NULL", (5,)),
        ("SELECT ?O", ({"b": 3, "a": 5},), "SELECT a=? OR b=?", (5, 3)),
        ("SELECT ?A", ({},), "SELECT 1", ()),
    ],
)
def test_expand_follows_upstream(
    template: str, args: tuple[Any, ...], sql: str, parameters: tuple[Any, ...]
) -> None:
    """Templates expand as openquake.commonlib.dbapi expands them."""
    assert sql_templates.expand(template, *args) == (sql, parameters)


def test_expand_stores_times_as_naive_utc() -> None:
    """An aware time becomes text in UTC."""
    time = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))

    assert sql_templates.expand("?x", time)[1] == ("2026-01-01 10:00:00",)


@pytest.mark.parametrize(
    ("template", "args"),
    [
        ("?x ?x", (1,)),
        ("?X", (1,)),
        ("?D", ("a",)),
        ("?s", ("job; DROP TABLE job",)),
        ("?D", ({"a=1 --": 1},)),
    ],
)
def test_expand_refuses_what_does_not_fit(template: str, args: tuple[Any, ...]) -> None:
    """Missing arguments, wrong kinds, and names that are none are refused."""
    with pytest.raises(UsageError):
        sql_templates.expand(template, *args)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2026-01-01 12:00:00", dt.datetime(2026, 1, 1, 12)),  # noqa: DTZ001
        (b"2026-01-01 12:00:00.5", dt.datetime(2026, 1, 1, 12, 0, 0, 500000)),  # noqa: DTZ001
        (b"2026-01-01 12:00:00.123456+00:00", dt.datetime(2026, 1, 1, 12, 0, 0, 123456)),  # noqa: DTZ001
        (b"2026-01-01 12:00:00+01:00", dt.datetime(2026, 1, 1, 11)),  # noqa: DTZ001
        (b"soon", "soon"),
    ],
)
def test_from_sql_time_reads_what_upstream_wrote(text: bytes, time: Any) -> None:
    """Times with and without fraction and zone are read; other text stays text."""
    assert sql_templates.from_sql_time(text) == time


def test_time_beyond_the_calendar_stays_text() -> None:
    """A time that is in the year 0 in UTC is text like any other, and no error of ours."""
    assert sql_templates.from_sql_time(b"0001-01-01 00:00:00+14:00") == "0001-01-01 00:00:00+14:00"


def test_only_short_templates_are_kept() -> None:
    """A text of megabytes is expanded and forgotten."""
    sql_templates._strip_short.cache_clear()
    sql_templates._parameters_only.cache_clear()
    long = f"SELECT '{'x' * sql_templates.LONGEST_KEPT}', ?x"

    assert sql_templates.expand(long, 1) == (long.replace("?x", "?"), (1,))
    assert sql_templates.expand("SELECT ?x", 1) == ("SELECT ?", (1,))

    assert sql_templates._strip_short.cache_info().currsize == 1
    assert sql_templates._parameters_only.cache_info().currsize == 1
