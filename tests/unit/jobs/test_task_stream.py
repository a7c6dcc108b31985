"""Tasks for a screen: bars while they are few, cells of bounded number when they are many."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from quakegrid.api.v1.task_records_pb2 import (
    ATTEMPT_END_DONE,
    ATTEMPT_END_DROPPED,
    ATTEMPT_END_LOST,
    TaskRecordBlock,
)
from quakegrid.reports.stream import grid as grids
from quakegrid.reports.stream.grid import COLUMNS, ROWS, Grid
from quakegrid.reports.stream.lives import Lives
from quakegrid.reports.stream.tallies import Tally
from quakegrid.reports.stream.task_stream import MOST_BARS, MOST_RETRIES, TaskStream, of_blocks
from tests.support.records.task_blocks import OPENED_S, block_of, opening


def many(count: int, worker_count: int, each_s: float = 1.0) -> Iterator[TaskRecordBlock]:
    """Tasks one after the other on all workers, in blocks of two thousand."""
    workers = [f"w{number}" for number in range(worker_count)]
    yield opening(workers)
    for first in range(0, count, 2000):
        yield block_of(
            [
                ("classical", workers[at % worker_count], (at // worker_count + 1) * each_s, each_s, 1)
                for at in range(first, min(count, first + 2000))
            ],
            first + 1,
        )


def test_few_tasks_have_a_bar_each() -> None:
    """Rows by node; a lost one says where and why, and does not count as done."""
    blocks = [
        opening(["w0", "w1"]),
        block_of(
            [
                ("classical", "w0", 1.0, 1.0, ATTEMPT_END_DONE),
                ("gmf", "w1", 2.0, 1.5, ATTEMPT_END_LOST),
                ("gmf", "w0", 3.0, 1.0, ATTEMPT_END_DROPPED),
            ]
        ),
    ]
    blocks[1].workers.add(worker_id="w1", left_time_s=OPENED_S + 2, reason="killed by SIGKILL")

    shown = of_blocks(blocks).shown(OPENED_S + 4)

    assert shown["bars"] == [[0, 0.0, 1.0, 0, 1, 1, 5], [1, 0.5, 2.0, 1, 2, 2, 5], [0, 2.0, 3.0, 1, 3, 3, 5]]
    assert shown["cells"] is None
    assert shown["counts"] == {
        "attempts": 3, "done": 1, "lost": 1, "dropped": 1, "omitted": 0, "workers": 2,
    }  # fmt: skip
    assert [row["nodes"] for row in shown["rows"]] == [["n0"], ["n1"]]
    assert (shown["end_s"], shown["is_over"]) == (4.0, False)
    assert shown["retries"] == [
        {
            "task_id": 2, "attempt": 1, "operation": "gmf", "at_s": 2.0, "reason": "killed by SIGKILL",
            "node": "n1", "worker_id": "w1",
        }
    ]  # fmt: skip
    assert shown["operations"][0] == {
        "name": "classical", "task_count": 1, "lost_count": 0, "total_s": 1.0, "median_s": 1.0, "max_s": 1.0,
        "bytes": 11, "peak_memory_bytes": 5,
    }  # fmt: skip


def test_busy_and_held_cores_are_means_over_columns() -> None:
    """Their sums are the time that was worked, and the time that workers were there."""
    stream = of_blocks(
        [opening(["w0", "w1"]), block_of([("a", "w0", 3.0, 2.0, 1), ("a", "w1", 4.0, 1.0, 1)])]
    )
    last = TaskRecordBlock(closed_time_s=OPENED_S + 4)
    last.workers.add(worker_id="w0", left_time_s=OPENED_S + 3.5, reason="done", is_clean=True)
    stream.take(last)

    shown = stream.shown(OPENED_S + 999)

    assert shown["is_over"]
    assert shown["end_s"] == 4.0
    assert sum(shown["busy"]) * shown["column_s"] == pytest.approx(3.0, rel=0.02)
    assert sum(shown["held"]) * shown["column_s"] == pytest.approx(7.5, rel=0.02)
    assert max(shown["held"]) == 2.0


def test_many_tasks_take_the_room_of_a_screen() -> None:
    """Twice the tasks and workers do not make the answer longer; no time is lost."""
    sizes = []
    for count, workers in ((4_000, 100), (12_000, 300)):
        shown = of_blocks(many(count, workers)).shown(OPENED_S)
        sizes.append(len(json.dumps(shown)))
        assert shown["bars"] is None
        assert len(shown["rows"]) <= ROWS
        assert len(shown["busy"]) <= COLUMNS
        assert len(shown["cells"]) <= ROWS * COLUMNS
        assert shown["counts"]["done"] == count
        assert sum(shown["busy"]) * shown["column_s"] == pytest.approx(count, rel=0.02)
        assert shown["rows"][0]["worker_count"] > 1

    assert max(sizes) < 100_000


def test_what_is_kept_does_not_grow_with_tasks() -> None:
    """A bar is kept of none, and of retries and long tasks a number."""
    stream = of_blocks(many(MOST_BARS + 1, 4))
    lost = [("classical", "w0", 1.0, 0.5, ATTEMPT_END_LOST)] * (2 * MOST_RETRIES)
    stream.take(block_of(lost))
    for number in range(0, 1000, 10):
        stream.take(
            block_of([(f"operation {each}", "w0", 9.0, 1.0, 1) for each in range(number, number + 10)])
        )

    shown = stream.shown(OPENED_S)

    assert stream._bars is None
    assert len(shown["retries"]) == MOST_RETRIES
    assert len(stream._tallies) == 201
    assert len(shown["operations"]) == 24
    assert len(shown["colours"]) == grids.COLOURS
    assert shown["colours"][-1] == "others"


def test_window_shows_tasks_of_its_time_only() -> None:
    """So a zoom has bars where the whole has cells."""
    whole = of_blocks(many(4_000, 100)).shown(OPENED_S)
    shown = of_blocks(many(4_000, 100), (10.2, 12.8)).shown(OPENED_S)

    assert whole["bars"] is None
    assert len(shown["bars"]) == 300
    assert (shown["from_s"], shown["to_s"]) == (10.2, 12.8)
    assert len(shown["busy"]) == COLUMNS
    assert set(shown["busy"]) == {100.0}


def test_stragglers_are_the_longest_of_their_operation() -> None:
    """By the medians of the report; ordinary ones are none."""
    tasks = [("a", "w0", float(at), 1.0, 1) for at in range(1, 40)] + [("a", "w0", 90.0, 50.0, 1)]

    shown = of_blocks([opening(["w0"]), block_of(tasks)]).shown(OPENED_S)

    assert [(each["task_id"], each["duration_s"]) for each in shown["stragglers"]] == [(40, 50.0)]
    assert shown["stragglers"][0]["median_s"] == pytest.approx(1.0, rel=0.05)


def test_stream_without_blocks_shows_nothing() -> None:
    """Also a session whose records are all left out."""
    stream = TaskStream()
    stream.take(TaskRecordBlock(omitted_count=3))

    shown = stream.shown(5.0)

    assert shown["bars"] == []
    assert shown["counts"]["omitted"] == 3
    assert shown["rows"] == []


def test_grid_keeps_all_time_when_it_folds() -> None:
    """Whatever the order in which rows and columns become too many."""
    chance = random.Random(5)
    grid = Grid()
    drawn_s = 0.0
    for _ in range(500):
        worker, begin_s = chance.randrange(1000), chance.uniform(0, 5000)
        end_s = begin_s + chance.uniform(0, 300)
        grid.make_row(worker)
        grid.draw(worker, begin_s, end_s, chance.randrange(grids.COLOURS))
        drawn_s += end_s - begin_s

    busy = grid.busy(ROWS, COLUMNS)

    assert grid.group == 16
    assert sum(busy) * grid.column_s == pytest.approx(drawn_s, rel=1e-4)


def test_runs_join_cells_that_look_alike() -> None:
    """Idle time has none; a row ends with its last."""
    grid = Grid((0.0, float(COLUMNS)))
    grid.draw(0, 10.0, 20.0, 3)
    grid.draw(0, 20.0, 20.5, 3)
    grid.draw(0, 500.0, 512.0, 1)

    assert list(grid.runs({0: 4}, 1, COLUMNS)) == [
        [4, 10, 20, 3, 10],
        [4, 20, 21, 3, 5],
        [4, 500, 512, 1, 10],
    ]


def test_long_lives_cost_no_more_than_short_ones() -> None:
    """Those outside of the window, and those within one column, count as far as they are in it."""
    lives = Lives()
    for name, joined_s, left_s in (("a", 0, 0), ("b", 2.25, 2.5), ("c", 8, 9), ("d", 1.5, 3.5)):
        life = lives.all[lives.number(name)]
        life.joined_s, life.left_s = joined_s, left_s

    assert lives.held(1.0, 1.0, 3, 10.0) == [1.5, 2.25, 1.5]
    assert lives.number("a") == 0
    assert lives.order(1) == [0, 1, 2, 3]
    assert lives.order(3) == [0, 1]


def test_median_is_known_to_five_percent() -> None:
    """Of none it is 0."""
    tally = Tally("a")
    assert tally.median_s == 0.0
    for number in range(1, 1001):
        tally.add(number / 100, number, 0)

    assert tally.median_s == pytest.approx(5.0, rel=0.05)
    assert min(tally.longest)[0] == 9.81
