"""Numbers of calculations: what is written of them, and how those of two differ."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from quakegrid import errors
from quakegrid.engine.web import result_numbers


def differ(
    folder: Path, one: Mapping[str, Any], other: Mapping[str, Any], inputs: Sequence[Any] = ({}, {})
) -> dict[str, Any]:
    """How two calculations differ that have computed this."""
    numbers: list[int] = []
    for datasets, files in zip((one, other), inputs, strict=True):
        path = folder / str(len(numbers))
        arrays = {key: np.asarray(value) for key, value in datasets.items()}
        result_numbers.write(arrays, files, path)
        numbers.append(os.open(path, os.O_RDONLY))
    try:
        found = result_numbers.compare(*numbers)
    finally:
        for number in numbers:
            os.close(number)
    json.dumps(found, allow_nan=False)
    return found


def test_largest_difference_is_found(tmp_path: Path) -> None:
    """Between two numbers, and as a share of the larger one."""
    (found,) = differ(tmp_path, {"a": [[1.0, 2.0], [4.0, 0.0]]}, {"a": [[1.0, 2.5], [3.75, 0.0]]})["results"]

    assert (found["is_same"], found["count"], found["differing"]) == (False, 4, 2)
    assert (found["largest"], found["largest_relative"]) == (0.5, 0.2)


def test_what_is_no_number_is_the_same_as_what_is_none(tmp_path: Path) -> None:
    """A number is not; what is infinite differs by no number."""
    nan, inf = np.nan, np.inf
    (same,) = differ(tmp_path, {"a": [nan, inf]}, {"a": [nan, inf]})["results"]
    (other,) = differ(tmp_path, {"a": [nan, 1.0, inf]}, {"a": [1.0, inf, -inf]})["results"]

    assert same["is_same"]
    assert (other["differing"], other["largest"]) == (3, 0.0)


def test_shapes_and_names_that_differ_are_told(tmp_path: Path) -> None:
    """Such numbers are not compared."""
    found = differ(tmp_path, {"a": [1, 2], "b": True}, {"a": [1, 2, 3], "c": np.float32(1)})

    assert found["results"] == [{"name": "a", "shapes": [[2], [3]], "size": 2, "is_same": False}]
    assert found["only"] == [["b"], ["c"]]


def test_numbers_are_read_and_compared_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, whatever the shape; a part of what is too large, and not more names than allowed."""
    monkeypatch.setattr(result_numbers, "BLOCK", 4)
    monkeypatch.setattr(result_numbers, "MOST_OF_ONE", 20)
    monkeypatch.setattr(result_numbers, "MOST_NUMBERS", 30)
    monkeypatch.setattr(result_numbers, "MOST_DATASETS", 3)
    cube, row = np.arange(30).reshape(2, 3, 5), np.arange(10)
    changed = cube + (cube == 19) + (cube == 20)
    one = {"cube": cube, "row": row, "rest": row, "unseen": row}
    other = {"cube": changed, "row": row, "rest": row[::-1], "unseen": row}

    found = differ(tmp_path, one, other)

    seen = {each["name"]: (each["size"], each["count"], each["differing"]) for each in found["results"]}
    assert seen == {"cube": (30, 20, 1), "rest": (10, 10, 10), "row": (10, 0, 0)}
    assert found["left_out"] == [1, 1]


def test_inputs_are_compared_by_their_contents(tmp_path: Path) -> None:
    """Wherever they are; what has gone is said."""
    for name, text in (("one.d/sites.csv", "1"), ("other.d/sites.csv", "2"), ("one.d/same.xml", "x")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "other.d" / "same.xml").write_text("x")
    ones, others = ({"sites": str(tmp_path / each / "sites.csv"), "more": [str(tmp_path / each / "same.xml")],
                     "how": {"kind": "relative"}} for each in ("one.d", "other.d"))  # fmt: skip
    others |= {"gone": str(tmp_path / "gone.xml")}

    found = differ(tmp_path, {}, {}, [ones, others])["inputs"]

    assert [each["name"] for each in found] == ["gone.xml", "sites.csv"]
    assert found[0]["values"] == [None, "gone"]
    assert found[1]["values"][0].startswith("1 bytes, SHA-256 6b86b273")


def test_results_of_a_datastore_are_its_numbers(tmp_path: Path) -> None:
    """By columns; neither texts, nor what the engine keeps for itself, nor inputs."""
    table = np.array([(1, b"x", 2.5)], [("id", "<u4"), ("name", "S4"), ("mag", "<f4")])
    with h5py.File(tmp_path / "calc.hdf5", "w") as store:
        store["hcurves-stats"] = np.zeros((2, 3))
        store["gmf_data/eid"] = [1, 2]
        store["events"] = table
        store["exposure"] = store["task_info"] = store["_rates/rate"] = [1.0]
        store["mmi_tags"] = np.array([b"a"])

        found = result_numbers.results_of(store, {"gmf_data", "events", "exposure", "mmi_tags"})

        assert sorted(found) == ["events/id", "events/mag", "gmf_data/eid", "hcurves-stats"]
        result_numbers.write(found, {}, tmp_path / "numbers")
    head, _, numbers = (tmp_path / "numbers").read_bytes().partition(b"\n")
    assert [place["name"] for place in json.loads(head)["places"]] == sorted(found)
    assert np.frombuffer(numbers, "<f8").tolist() == [1, 2.5, 1, 2, *[0] * 6]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n", b"no json\n", b'{"places": [], "inputs": {}}'])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """In words."""
    path = tmp_path / "file"
    path.write_bytes(content)
    number = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(errors.UsageError, match="cannot be read"):
            result_numbers.compare(number, number)
    finally:
        os.close(number)
