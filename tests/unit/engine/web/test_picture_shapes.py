"""The shapes of pictures: what is left out, thinned and summed up."""

from __future__ import annotations

import json
import math

import numpy as np

from quakegrid.engine.web.pictures import shapes
from quakegrid.engine.web.pictures.shapes import Axis, Choices

LOG, PLAIN = Axis("x", "g", is_log=True), Axis("y")


def test_logarithmic_axis_has_no_point_at_zero() -> None:
    """Such points are left out; so is what is no number."""
    made = shapes.lines("t", (LOG, LOG), {"mean": ([0.1, 1, 2, 3], [0.5, 0, math.nan, 0.001])})

    assert made["series"] == [{"name": "mean", "x": [0.1, 3.0], "y": [0.5, 0.001]}]
    assert shapes.lines("t", (PLAIN, PLAIN), {"a": ([0], [0])})["series"][0]["x"] == [0.0]


def test_many_lines_are_cut_and_said() -> None:
    """So that a picture of all realizations is no blur."""
    made = shapes.lines("t", (PLAIN, PLAIN), {str(number): ([1], [1]) for number in range(100)})

    assert len(made["series"]) == shapes.MOST_LINES
    assert made["note"] == "the first 30 of 100 lines"


def test_large_map_is_thinned_and_said() -> None:
    """A million sites are no more than a screen shows."""
    count = 1_000_000
    made = shapes.points("t", LOG, np.zeros(count), np.ones(count), np.full(count, 0.123456789))

    assert len(made["lon"]) == len(made["lat"]) == len(made["values"]) == shapes.MOST_POINTS
    assert made["values"][0] == 0.12346
    assert made["note"] == "every 50th of 1000000 sites"


def test_small_bars_are_summed_up() -> None:
    """The longest first; the order of states is kept."""
    made = shapes.bars("t", "tag", PLAIN, {f"t{number}": float(number) for number in range(40)})
    kept = shapes.bars("t", "state", PLAIN, {"none": 1.0, "all": 2.0}, is_sorted=False)

    assert made["names"][:2] == ["t39", "t38"]
    assert (made["names"][-1], made["heights"][-1]) == ("15 others", sum(range(15)))
    assert kept["names"] == ["none", "all"]


def test_choice_that_there_is_not_counts_as_the_first() -> None:
    """Of one option nothing is to be chosen."""
    choices = Choices({"a": "2", "b": "7", "c": "-1", "d": "²"})
    chosen = [choices.index(name, name, "xyz") for name in "abcde"]

    assert chosen == [2, 0, 0, 0, 0]
    assert choices.index("f", "f", "xyz", 1) == 1
    assert choices.index("g", "g", "x") == 0
    assert [each["name"] for each in choices.as_json()] == list("abcdef")


def test_cells_are_columns_of_rows() -> None:
    """As they are drawn; numbers that are none are null in JSON."""
    made = shapes.cells("t", (PLAIN, PLAIN, LOG), (["a", "b"], ["1"]), np.array([[1.0], [math.inf]]))

    assert json.loads(json.dumps(made, allow_nan=False))["values"] == [[1.0], [None]]
