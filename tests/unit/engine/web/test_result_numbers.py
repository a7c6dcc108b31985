"""Numbers of calculations: what is written of them, and how those of two differ."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import pytest

from quakegrid import errors
from quakegrid.comparison import parameters
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
    assert [each["is_same"] for each in found["results"]] == [False, False, None]
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
    assert differ(tmp_path, {}, {}, [others, others])["inputs"] == [
        {"name": "gone.xml", "values": ["gone", "gone"]}
    ]
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
    kinds = [("id", "<u8", ()), ("mag", "<f8", ()), ("eid", "<i8", (2,)), ("curves", "<f8", (6,))]
    (row,) = np.frombuffer(numbers, kinds).tolist()
    assert [np.ravel(each).tolist() for each in row] == [[1], [2.5], [1, 2], [0] * 6]


PLACE = {"name": "a", "shape": [2], "kind": "f", "count": 2, "first": 0}
HEAD: dict[str, Any] = {"inputs": {}, "places": [PLACE], "left_out": 0}
NUMBERS = bytes(16)


def content_of(head: Any, numbers: bytes = NUMBERS) -> bytes:
    """A file with this head."""
    return json.dumps(head).encode() + b"\n" + numbers


def compared(path: Path, content: bytes) -> dict[str, Any]:
    """How a file differs from itself."""
    path.write_bytes(content)
    number = os.open(path, os.O_RDONLY)
    try:
        return result_numbers.compare(number, number)
    finally:
        os.close(number)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "content",
    [
        content_of(HEAD, NUMBERS[:-1]),
        content_of(HEAD, b""),
        content_of(HEAD | {"left_out": None}),
        content_of(HEAD | {"inputs": []}),
        content_of(HEAD | {"inputs": {"a": 1}}),
        content_of({name: HEAD[name] for name in ("inputs", "places")}),
        content_of(HEAD | {"places": {}}),
        content_of(HEAD | {"places": [1]}),
        content_of(HEAD | {"places": [PLACE] * (result_numbers.MOST_DATASETS + 1)}),
        content_of(
            HEAD | {"places": [PLACE | {"shape": [1 << 62], "count": result_numbers.MOST_OF_ONE}] * 17}
        ),
        *(
            content_of(HEAD | {"places": [PLACE | changed]})
            for changed in (
                {"count": 1 << 60, "shape": [1 << 60]},
                {"count": 3},
                {"count": -1},
                {"count": True},
                {"count": 1.5},
                {"first": -1},
                {"first": 1 << 62},
                {"kind": "O"},
                {"kind": []},
                {"shape": [-1]},
                {"shape": [2, *[1] * 32]},
                {"shape": 2},
                {"name": 1},
                {"more": 1},
            )
        ),
        b"[" * 100_000 + b"\n",
    ],
)
def test_file_that_a_person_has_made_up_is_refused(tmp_path: Path, content: bytes) -> None:
    """In words, and without the work of a file of such a size."""
    with pytest.raises(errors.UsageError, match="cannot be read"):
        compared(tmp_path / "file", content)


def test_file_without_mistakes_is_read(tmp_path: Path) -> None:
    """The others have one each."""
    assert compared(tmp_path / "file", content_of(HEAD))["results"][0]["is_same"]


def test_large_whole_numbers_are_compared_as_such(tmp_path: Path) -> None:
    """As fractions they would be the same; the difference is that of the numbers, whatever their signs."""
    big = 2**53
    one = {"i": np.array([big, -big]), "u": np.array([2**64 - 1, 1], "u8"), "b": np.array([True, False])}
    other = {"i": np.array([big + 1, -big]), "u": np.array([2**64 - 2, 3], "u8"), "b": np.array([True, True])}

    found = {each["name"]: each for each in differ(tmp_path, one, other)["results"]}

    assert {name: (each["differing"], each["largest"]) for name, each in found.items()} == {
        "b": (1, 1.0), "i": (1, 1.0), "u": (2, 2.0),
    }  # fmt: skip
    assert found["u"]["largest_relative"] == pytest.approx(2 / 3)
    (mixed,) = differ(tmp_path, {"a": np.array([1, 2])}, {"a": np.array([1.0, 2.5])})["results"]
    assert (mixed["differing"], mixed["largest"]) == (1, 0.5)


def test_largest_fractions_differ_by_what_json_can_hold(tmp_path: Path) -> None:
    """Their difference is more than a fraction of eight bytes can be."""
    (found,) = differ(tmp_path, {"a": [1e308]}, {"a": [-1e308]})["results"]

    assert found["largest"] == np.finfo("f8").max


def test_input_that_was_written_later_is_not_what_was_read(tmp_path: Path) -> None:
    """But one that the web service keeps, which nobody may write, is: its time is that of its last use."""
    paths = [tmp_path / name for name in ("same.xml", "kept.xml", "edited.xml")]
    for path, time_s in zip(paths, (10.0, 30.0, 30.0), strict=True):
        path.write_text("x")
        os.utime(path, (time_s, time_s))
    paths[1].chmod(0o400)

    found = result_numbers.digests({"a": list(map(str, paths))}, begin_s=20.0)

    assert found["same.xml"] == found["kept.xml"] != found["edited.xml"]
    assert found["edited.xml"] == "changed since the calculation began"


def test_job_file_is_no_input(tmp_path: Path) -> None:
    """It was read before its job waited: when it was edited meanwhile, its contents are others by now.

    Its parameters are compared, as they were read. The same is true of an archive.
    """
    names = {"job_ini": "job.ini", "input_zip": "job.zip", "sites": "sites.csv"}
    for name in names.values():
        (tmp_path / name).write_text(name)

    found = result_numbers.digests({kind: str(tmp_path / name) for kind, name in names.items()})

    assert list(found) == ["sites.csv"]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (errno.ENOENT, "gone"),
        (errno.ENOTDIR, "gone"),
        (errno.EACCES, "no permission to read it"),
        (errno.EIO, "cannot be read"),
    ],
)
def test_input_that_is_not_read_says_why(
    trouble: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there is not called gone; that it is unknown on both sides is told in each case."""
    path = tmp_path / "sites.csv"

    def refuse(_path: Path, *_args: object, **_options: object) -> NoReturn:
        raise OSError(trouble, os.strerror(trouble))

    monkeypatch.setattr(Path, "stat", refuse)

    found = result_numbers.digests({"sites": str(path)})

    assert found == {"sites.csv": words}
    assert len(parameters.differing_inputs(found, found)) == 1


def test_inputs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By as many of their folders as it takes; where all of them are says nothing."""
    for folder, text in (("one.d", "1"), ("other.d", "2")):
        for name in ("a/ssm.xml", "b/ssm.xml", "b/sites.csv"):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text if name == "a/ssm.xml" else "same")
    inputs = [
        {"models": [str(tmp_path / each / name / "ssm.xml") for name in "ab"],
         "sites": str(tmp_path / each / "b" / "sites.csv"), "again": str(tmp_path / each / "b" / "sites.csv")}
        for each in ("one.d", "other.d")
    ]  # fmt: skip

    found = differ(tmp_path, {}, {}, inputs)["inputs"]

    assert [each["name"] for each in found] == ["a/ssm.xml"]
    assert differ(tmp_path, {}, {}, [inputs[0], {}])["inputs"][1]["name"] == "b/ssm.xml"


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
