"""The tasks of one session for a screen: a bar for each while they are few, else the cells of a grid.

A stream takes the blocks of a session as they come. A million tasks take the memory of some thousand: what is
kept of each is a bar, up to a number, and counts. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from quakegrid.api.v1 import task_records_pb2
from quakegrid.api.v1.task_records_pb2 import TaskRecordBlock
from quakegrid.reports.stream import lists
from quakegrid.reports.stream.grid import COLOURS, Grid
from quakegrid.reports.stream.lists import Lost
from quakegrid.reports.stream.lives import Lives
from quakegrid.reports.stream.tallies import Tally

# Of tasks that have bars of their own; above, only cells are shown.
MOST_BARS = 3000
MOST_RETRIES = 100
# Operations with counts of their own; a calculation has some tens.
MOST_TALLIES = 200
# What operations are called together that have no colour of their own.
OTHERS = "others"
_DONE, _LOST = task_records_pb2.ATTEMPT_END_DONE, task_records_pb2.ATTEMPT_END_LOST
# Worker, begin, end, colour, how it ended, task, memory.
Bar = tuple[int, float, float, int, int, int, int]


class TaskStream:
    """The tasks of one session, of all its time or of a window.

    Args:
        window_s: begin and end that are looked at, in seconds since the session was opened; None for all of
            it, however long it gets.
    """

    def __init__(self, window_s: tuple[float, float] | None = None) -> None:
        self._window_s = window_s
        self._opened_s, self._closed_s, self._last_s = 0.0, 0.0, 0.0
        self._grid, self._lives = Grid(window_s), Lives()
        self._tallies: dict[str, Tally] = {}
        self._colours: dict[str, int] = {}
        self._bars: list[Bar] | None = []
        self._retries: deque[Lost] = deque(maxlen=MOST_RETRIES)
        self._counts = {"attempts": 0, "done": 0, "lost": 0, "dropped": 0, "omitted": 0}

    @property
    def is_over(self) -> bool:
        """Whether the session has ended."""
        return self._closed_s > 0

    def take(self, block: TaskRecordBlock) -> None:
        """Add a block of the session."""
        if block.HasField("session") and not self._opened_s:
            self._opened_s = block.session.opened_time_s
        for record in block.workers:
            self._take_worker(record)
        self._counts["omitted"] += block.omitted_count
        if block.closed_time_s:
            self._closed_s = block.closed_time_s - self._opened_s
        if block.end_times_s and not self._is_outside(block):
            self._take_attempts(block)

    def _is_outside(self, block: TaskRecordBlock) -> bool:
        """Whether none of a block's attempts is in the window; so most blocks cost little."""
        ends_s, longest_s = block.end_times_s, max(*block.held_s, *block.duration_s, 0.0)
        self._last_s = max(self._last_s, max(ends_s) - self._opened_s)
        if self._window_s is None:
            return False
        from_s, to_s = (self._opened_s + each_s for each_s in self._window_s)
        return max(ends_s) < from_s or min(ends_s) - longest_s > to_s

    def _take_attempts(self, block: TaskRecordBlock) -> None:
        workers = list(map(self._worker, block.worker_ids))
        tallies = list(map(self._tally, block.operations))
        colours = list(map(self._colour, block.operations))
        spent = (
            held_s if end == _LOST else duration_s
            for end, held_s, duration_s in zip(block.ends, block.held_s, block.duration_s, strict=True)
        )
        columns = zip(
            map(workers.__getitem__, block.worker_numbers), map(tallies.__getitem__, block.operation_numbers),
            map(colours.__getitem__, block.operation_numbers), block.end_times_s, spent, block.ends,
            block.task_ids, block.attempts, block.in_bytes, block.out_bytes, block.peak_memory_bytes,
            strict=True,
        )  # fmt: skip
        for worker, tally, colour, end_time_s, spent_s, end, *rest in columns:
            end_s = end_time_s - self._opened_s
            begin_s = max(0.0, end_s - spent_s)
            if self._window_s and (end_s < self._window_s[0] or begin_s > self._window_s[1]):
                continue
            self._grid.draw(worker, begin_s, end_s, colour)
            if self._bars is not None:
                self._add_bar((worker, begin_s, end_s, colour, end, rest[0], rest[-1]))
            self._count(tally, worker, (end, spent_s, end_s), *rest)

    def _worker(self, worker_id: str) -> int:
        number = self._lives.number(worker_id)
        self._grid.make_row(number)
        return number

    def _take_worker(self, record: task_records_pb2.WorkerRecord) -> None:
        life = self._lives.all[self._worker(record.worker_id)]
        if record.joined_time_s:
            life.node, life.joined_s = record.node, record.joined_time_s - self._opened_s
        if record.left_time_s:
            life.left_s, life.reason = record.left_time_s - self._opened_s, record.reason

    def _add_bar(self, bar: Bar) -> None:
        assert self._bars is not None
        self._bars.append(bar)
        if len(self._bars) > MOST_BARS:
            self._bars = None

    def _count(
        self, tally: Tally, worker: int, how: tuple[int, float, float], task_id: int, *numbers: int
    ) -> None:
        end, spent_s, end_s = how
        attempt, in_bytes, out_bytes, memory_bytes = numbers
        self._counts["attempts"] += 1
        if end == _DONE:
            self._counts["done"] += 1
            tally.add(spent_s, task_id, worker)
            tally.byte_count += in_bytes + out_bytes
            tally.peak_memory_bytes = max(tally.peak_memory_bytes, memory_bytes)
        elif end == _LOST:
            self._counts["lost"] += 1
            tally.lost_count += 1
            self._retries.append((end_s, task_id, tally.name, worker, attempt))
        else:
            self._counts["dropped"] += 1

    def _tally(self, name: str) -> Tally:
        if name not in self._tallies and len(self._tallies) >= MOST_TALLIES:
            name = OTHERS
        return self._tallies.setdefault(name, Tally(name))

    def _colour(self, name: str) -> int:
        """The first operations have one each, all others the last."""
        if name not in self._colours and len(self._colours) < COLOURS - 1:
            self._colours[name] = len(self._colours)
        return self._colours.get(name, COLOURS - 1)

    # --- what a screen shows

    def shown(self, now_s: float) -> dict[str, Any]:
        """All that a page draws, of bounded size; seconds are since the session was opened.

        Args:
            now_s: seconds since 1970; a session that is open goes on until then.
        """
        open_s = now_s - self._opened_s if self._opened_s else 0.0
        end_s = self._closed_s or max(self._last_s, open_s)
        until_s = self._window_s[1] if self._window_s else end_s
        grid, lives = self._grid, self._lives
        columns, rows = grid.column_count(until_s), lives.order(grid.group)
        drawn = {row: place for place, row in enumerate(rows)}
        others = [OTHERS] if len(self._tallies) > len(self._colours) else []
        return {
            "opened_s": self._opened_s,
            "from_s": grid.begin_s,
            "to_s": until_s,
            "end_s": end_s,
            "column_s": grid.column_s,
            "is_over": self.is_over,
            "counts": self._counts | {"workers": len(lives.all)},
            "colours": [*self._colours, *others],
            "operations": lists.operations(self._tallies.values()),
            "rows": list(map(self._row, rows)),
            "bars": self._shown_bars(drawn),
            "cells": list(grid.runs(drawn, len(lives.all), columns)) if self._bars is None else None,
            "busy": [round(count, 2) for count in grid.busy(len(rows), columns)],
            "held": [round(count, 2) for count in lives.held(grid.begin_s, grid.column_s, columns, end_s)],
            "stragglers": lists.stragglers(self._tallies.values(), lives.all),
            "retries": lists.retries(self._retries, lives.all),
        }

    def _row(self, row: int) -> dict[str, Any]:
        group = self._grid.group
        members = self._lives.all[row * group : (row + 1) * group]
        nodes = sorted({each.node for each in members})
        return {"worker_id": members[0].worker_id, "worker_count": len(members), "nodes": nodes[:3]}

    def _shown_bars(self, drawn: dict[int, int]) -> list[list[float]] | None:
        """Bars as [row, begin, end, colour, how it ended (1 done, 2 lost, 3 dropped), task, memory]."""
        if self._bars is None:
            return None
        group = self._grid.group
        return [
            [drawn[worker // group], round(begin_s, 4), round(end_s, 4), *rest]
            for worker, begin_s, end_s, *rest in self._bars
        ]


def of_blocks(blocks: Iterable[TaskRecordBlock], window_s: tuple[float, float] | None = None) -> TaskStream:
    """The stream of all blocks of a session."""
    stream = TaskStream(window_s)
    for block in blocks:
        stream.take(block)
    return stream
