"""What a journal rests on: each change is found and named, and what changes nothing is let pass."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from openquake.baselib import parallel, performance
from scipy.spatial import KDTree

from quakegrid.engine.replay import digests, pins
from quakegrid.engine.replay.digests import SubmissionDigests
from quakegrid.engine.replay.pins import Pins
from quakegrid.engine.tasks.shared_arrays import SharedArray

SECTIONS = {"distribution": {"compress": "0"}, "dbserver": {"port": 1908}}


def pinned(*paths: Path, parent: Path | None = None, **versions: str) -> Pins:
    """What a calculation with these inputs rests on."""
    oqparam = SimpleNamespace(_input_files=[*map(str, paths), pins.NO_FILE])
    job = None if parent is None else SimpleNamespace(id=5, ds_calc_dir=str(parent))
    found = pins.of(oqparam, {"numpy": "2.2.6", **versions}, pins.parent_of(job), SECTIONS)
    return pins.decode(pins.encode(found))


def test_changed_input_is_named(tmp_path: Path) -> None:
    """By its content: a newer time changes nothing."""
    model, sites = tmp_path / "model.xml", tmp_path / "sites.csv"
    for path in (model, sites):
        path.write_text("1")
    then = pinned(model, sites)

    sites.touch()
    assert pins.differences(then, pinned(model, sites)) == []
    model.write_text("2")
    assert pins.differences(then, pinned(model, sites)) == [f"the input {model} has changed"]
    model.unlink()
    assert pins.differences(then, pinned(model, sites)) == [f"the input {model} has changed"]
    assert pins.differences(then, pinned(sites)) == [f"the input {model} has changed"]


def test_other_version_is_named(tmp_path: Path) -> None:
    """With both versions, also if there was none."""
    then = pinned()

    assert pins.differences(then, pinned(numpy="2.3.0")) == ["numpy is 2.3.0, and it was 2.2.6"]
    assert pins.differences(then, pinned(numba="1")) == ["numba is 1, and it was not there"]


def test_other_setting_is_named_and_another_place_of_a_service_is_not() -> None:
    """What says where a service is has no part in results."""
    then = pinned()
    moved, changed = pinned(), pinned()
    assert not any("dbserver" in name for name in moved["setting"])
    changed["setting"]["[distribution] compress"] = "7"

    (words,) = pins.differences(then, changed)
    assert words.startswith("the setting [distribution] compress is 7, and it was ")


def test_changed_parent_is_named(tmp_path: Path) -> None:
    """Its datastore was written again, or is gone."""
    store = tmp_path / "calc_5.hdf5"
    store.write_text("1")
    then = pinned(parent=tmp_path / "calc_5")
    assert pins.differences(then, pinned(parent=tmp_path / "calc_5")) == []

    store.unlink()

    assert pins.differences(then, pinned(parent=tmp_path / "calc_5")) == [
        "job 5, which it starts from, has changed"
    ]


def task(_first: Any, _second: Any, _monitor: Any) -> None:
    """Stands for one of the engine's."""


def digest(*args: Any, task_no: int = 0, monitor: Any = None) -> bytes:
    """That of a submission."""
    return SubmissionDigests().of(task, [parallel.Pickled(arg) for arg in args], task_no, monitor)


def test_digest_tells_arguments_apart() -> None:
    """By content, place and number; large ones, too."""
    large = np.arange(100_000)
    known = {
        digest(1, 2),
        digest(2, 1),
        digest(1, 2, task_no=1),
        digest(large, 1),
        digest(large + 1, 1),
        digest(b"ab", b"c"),
        digest(b"a", b"bc"),
    }

    assert len(known) == 7
    assert digest(large, 1) == digest(large.copy(), 1)


def test_digest_tells_shared_arrays_apart() -> None:
    """They travel beside the arguments."""

    def monitor(array: Any) -> Any:
        return SimpleNamespace(shared={"sites": SharedArray(array)})

    some, others = np.arange(10), np.arange(10) + 1

    assert digest(1, monitor=monitor(some)) == digest(1, monitor=monitor(some.copy()))
    assert digest(1, monitor=monitor(some)) != digest(1, monitor=monitor(others))
    assert digest(1, monitor=monitor(some)) != digest(1, monitor=monitor(some.astype("f8")))


def test_addresses_and_times_are_no_part_of_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree of scipy has addresses in its pickle, and a monitor times."""
    points = np.arange(30.0).reshape(10, 3)
    assert digest(KDTree(points), 1) == digest(KDTree(points), 1)

    monkeypatch.setattr(performance.Monitor, "__getstate__", digests._state_without_times)
    first, second = performance.Monitor("a"), performance.Monitor("a")
    second._start_time += 5
    assert digest(first, 1) == digest(second, 1)
    assert pickle.loads(pickle.dumps(first)).operation == "a"
