"""How results look: JSON for scripts, tables for people."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from quakegrid.cli.views import render
from quakegrid.jobs.states import JobState

START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


@dataclass(frozen=True)
class Row:
    """Something to print."""

    id: int
    name: str
    start_time: datetime.datetime | None


COLUMNS = {"id": "id", "name": "name"}


def test_json_has_all_fields_and_utc_instants(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is complete, whatever the table shows."""
    render.print_listing("json", [Row(1, "a", START)], COLUMNS)

    found = json.loads(capsys.readouterr().out)

    assert found == [{"id": 1, "name": "a", "start_time": "2026-01-02T02:04:05+00:00"}]


def test_json_of_no_items_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts need no special case."""
    render.print_listing("json", [], COLUMNS)

    assert json.loads(capsys.readouterr().out) == []


def test_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A long description stays on its line."""
    render.print_listing("table", [Row(1, "x" * 300, None)], COLUMNS)

    assert "x" * 300 in capsys.readouterr().out


def test_table_takes_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in a description are not markup."""
    render.print_listing("table", [Row(1, "[bold]case[/bold]", None)], COLUMNS)

    assert "[bold]case[/bold]" in capsys.readouterr().out


def test_quiet_prints_the_first_column(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids for a shell loop."""
    render.print_listing("quiet", [Row(1, "a", None), Row(2, "b", None)], COLUMNS)

    assert capsys.readouterr().out == "1\n2\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (1.5, "1.50"), ((1, 2), "1, 2"), ((), "-"), (JobState.FAILED, "failed")],
)
def test_cell_reads_well(value: object, text: str) -> None:
    """Each kind of value has one look."""
    assert render.cell(value) == text


def test_plain_turns_nested_values_into_json_ones() -> None:
    """Paths, tuples, dataclasses, enums."""
    found = render.plain({"row": Row(1, "a", None), "paths": (Path("/a"),), "state": JobState.COMPLETE})

    assert json.loads(json.dumps(found)) == {
        "row": {"id": 1, "name": "a", "start_time": None},
        "paths": ["/a"],
        "state": "complete",
    }
