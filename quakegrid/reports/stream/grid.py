"""A grid of workers by time whose cells say how long each operation was busy there.

When time or workers grow beyond it, two neighbours become one: it takes the same memory for a second as for a
week. Pure.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping

ROWS, COLUMNS = 64, 512
# Operations that are told apart; further ones share the last place.
COLOURS = 8
FIRST_COLUMN_S = 0.02
_STRIDE = COLUMNS * COLOURS
# [row, first column, column after the last, colour, tenths of the time that were busy]
Run = list[int]


class Grid:
    """Who was busy when.

    Args:
        window_s: begin and end; None for all time from 0 on.
    """

    def __init__(self, window_s: tuple[float, float] | None = None) -> None:
        self._is_growing = window_s is None
        self.begin_s, end_s = window_s or (0.0, COLUMNS * FIRST_COLUMN_S)
        self.column_s = max((end_s - self.begin_s) / COLUMNS, 1e-6)
        self.group = 1  # workers of a row
        self._seconds = array("f", [0.0]) * (ROWS * _STRIDE)

    def make_row(self, worker: int) -> None:
        """Make room for the worker of this number."""
        while worker >= ROWS * self.group:
            self._fold_rows()

    def draw(self, worker: int, begin_s: float, end_s: float, colour: int) -> None:
        """Note that a worker was busy with an operation."""
        while self._is_growing and end_s >= self.column_s * COLUMNS:
            self._fold_columns()
        width_s, cells = self.column_s, self._seconds
        first = max(0, int((begin_s - self.begin_s) / width_s))
        last = min(COLUMNS - 1, int((end_s - self.begin_s) / width_s))
        at = (worker // self.group) * _STRIDE + first * COLOURS + colour
        left_s = self.begin_s + first * width_s
        for _ in range(first, last + 1):
            cells[at] += max(0.0, min(end_s, left_s + width_s) - max(begin_s, left_s))
            at += COLOURS
            left_s += width_s

    def column_count(self, until_s: float) -> int:
        """How many columns there are until an instant."""
        return min(COLUMNS, max(1, math.ceil((until_s - self.begin_s) / self.column_s)))

    def busy(self, row_count: int, column_count: int) -> list[float]:
        """The mean number of workers that were busy, by column."""
        sums = [0.0] * column_count
        for row in range(row_count):
            at = row * _STRIDE
            for column in range(column_count):
                sums[column] += sum(self._seconds[at : at + COLOURS])
                at += COLOURS
        return [busy_s / self.column_s for busy_s in sums]

    def runs(self, rows: Mapping[int, int], worker_count: int, column_count: int) -> Iterator[Run]:
        """What is to be drawn: neighbours that look alike are one.

        Args:
            rows: where each row is drawn.
            worker_count: of all rows.
            column_count: of columns that have been.
        """
        for row, drawn in rows.items():
            workers = min(self.group, worker_count - row * self.group)
            run: Run | None = None
            for column in range(column_count):
                colour, tenths = self._look(row, column, workers)
                if run is not None and run[2:] == [column, colour, tenths]:
                    run[2] = column + 1
                    continue
                if run is not None:
                    yield run
                run = [drawn, column, column + 1, colour, tenths] if tenths else None
            if run is not None:
                yield run

    def _look(self, row: int, column: int, workers: int) -> tuple[int, int]:
        """The operation that took most of a cell's time, and how many tenths of its time were busy."""
        at = row * _STRIDE + column * COLOURS
        cell = self._seconds[at : at + COLOURS]
        tenths = math.ceil(round(10 * sum(cell) / (self.column_s * workers), 3))
        return cell.index(max(cell)), min(10, tenths)

    def _fold_columns(self) -> None:
        """Two columns become one."""
        old, new = self._seconds, array("f", [0.0]) * len(self._seconds)
        for row in range(0, len(old), _STRIDE):
            for colour in range(row, row + COLOURS):
                line = old[colour : row + _STRIDE : COLOURS]
                sums = array("f", map(sum, zip(line[::2], line[1::2], strict=True)))
                new[colour : row + _STRIDE // 2 : COLOURS] = sums
        self._seconds = new
        self.column_s *= 2

    def _fold_rows(self) -> None:
        """Two rows become one."""
        old, new = self._seconds, array("f", [0.0]) * len(self._seconds)
        for row in range(ROWS // 2):
            first, second = old[2 * row * _STRIDE :][:_STRIDE], old[(2 * row + 1) * _STRIDE :][:_STRIDE]
            new[row * _STRIDE : (row + 1) * _STRIDE] = array("f", map(sum, zip(first, second, strict=True)))
        self._seconds = new
        self.group *= 2
