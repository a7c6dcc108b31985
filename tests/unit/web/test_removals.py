"""Inputs and datastores of people go with their rights, and nothing is forgotten that is still there."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.jobs.engine_values import TableValue
from quakegrid.services.web.persons import removals as removals_module
from quakegrid.services.web.persons.removals import MOST_FILES, MOST_OF_OWNER, Removals
from quakegrid.services.web.persons.whose import Whose
from quakegrid.services.web.uploads import sweeping
from quakegrid.services.web.uploads.inputs import DAY_S, Inputs
from quakegrid.settings import config


class FakeViews:
    """Runs views; those of people in `without_account` fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.without_account: set[str] = set()

    async def run(self, name: str, text: str, *, whose: Whose) -> dict[str, Any]:
        """Note what is asked."""
        assert name == "remove"
        if whose.person in self.without_account:
            raise errors.EngineMissingError(f"there is no account for {whose.person}")
        self.asked.append((whose.person, json.loads(text)))
        return {}


class FakeDbserver:
    """Has a list of files that are left."""

    def __init__(self, *left: tuple[str, str]) -> None:
        self.left = dict(left)

    async def call(self, action: str, *args: Any) -> Any:
        """Read the list, or cross files off."""
        if action.startswith("SELECT"):
            return TableValue(("path", "user_name"), tuple(self.left.items()))
        for path in args[0]:
            del self.left[path]
        return None


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """The folders of a service."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "openquake.cfg").touch()
    settings = config.load_settings(
        state, {"OQ_CONFIG_FILE": str(state / "openquake.cfg"), config.ONLY_CONFIG: "1"}
    )
    return Inputs(replace(settings, shared_dir=str(tmp_path / "shared")), "service")


def test_inputs_of_a_person_are_removed_as_the_person(inputs: Inputs) -> None:
    """Their record goes afterwards; if that fails it stays, and counts."""
    views = FakeViews()
    removals = Removals(inputs, FakeDbserver().call, views.run)
    own, hers = inputs.new_folder(), inputs.new_folder(is_passing=True)
    (hers / "x").write_bytes(bytes(100))
    inputs.keep(own, "anna", 1)
    inputs.give(hers, "anna", 2)
    views.without_account = {"anna"}

    asyncio.run(removals.inputs_of_job(1))
    asyncio.run(removals.inputs_of_job(2))

    assert not own.exists()
    assert [(kept.job_id, kept.size_bytes) for kept in inputs.kept()] == [(2, 100)]
    views.without_account.clear()
    asyncio.run(removals.inputs_of_job(2))
    assert views.asked == [("anna", {"inputs": [hers.name], "datastores": []})]
    assert list(inputs.kept()) == []
    assert inputs.used_bytes("anna") == 0


def test_inputs_that_no_calculation_took_go_after_a_day(inputs: Inputs) -> None:
    """The person may have them already; they take no room until then."""
    views = FakeViews()
    removals = Removals(inputs, FakeDbserver().call, views.run)
    folder = inputs.new_folder(is_passing=True)
    (folder / "x").write_bytes(bytes(100))
    inputs.give(folder, "anna")
    assert not inputs.is_kept_here(folder)

    async def no_row(_job_id: int) -> None:
        raise AssertionError

    asyncio.run(sweeping.sweep(inputs, no_row, removals.inputs, 7))
    assert (len(list(inputs.kept())), views.asked, inputs.used_bytes("anna")) == (1, [], 0)
    record = folder.with_suffix(".json")
    old_s = record.stat().st_mtime - DAY_S - 1
    os.utime(record, (old_s, old_s))
    asyncio.run(sweeping.sweep(inputs, no_row, removals.inputs, 7))

    assert views.asked == [("anna", {"inputs": [folder.name], "datastores": []})]
    assert list(inputs.passing.iterdir()) == []


def test_files_that_are_left_are_removed_owner_by_owner(
    inputs: Inputs, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails stays on the list, is told once, and keeps nobody else waiting."""
    views = FakeViews()
    dbserver = FakeDbserver(("/b/calc_1.hdf5", "ben"), ("/a/calc_2.hdf5", "anna"), ("/a/calc_3.hdf5", "anna"))
    removals = Removals(inputs, dbserver.call, views.run)
    views.without_account = {"ben"}

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            asyncio.run(removals.left_files())

    assert views.asked == [("anna", {"inputs": [], "datastores": ["/a/calc_2.hdf5", "/a/calc_3.hdf5"]})]
    assert dbserver.left == {"/b/calc_1.hdf5": "ben"}
    assert [record.getMessage() for record in caplog.records] == [
        "files_left owner=ben first=/b/calc_1.hdf5 count=1 reason=there is no account for ben"
    ]
    views.without_account.clear()
    asyncio.run(removals.left_files())
    assert dbserver.left == {}


def test_owner_whose_driver_stands_still_keeps_nobody_else_waiting(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person can stop it, as it runs as their account."""
    monkeypatch.setattr(removals_module, "OWNER_TIMEOUT_S", 0.01)
    views = FakeViews()
    dbserver = FakeDbserver(("/b/calc_1.hdf5", "ben"), ("/a/calc_2.hdf5", "anna"))

    async def run(name: str, text: str, *, whose: Whose) -> dict[str, Any]:
        if whose.person == "ben":
            await asyncio.Event().wait()
        return await views.run(name, text, whose=whose)

    asyncio.run(Removals(inputs, dbserver.call, run).left_files())

    assert dbserver.left == {"/b/calc_1.hdf5": "ben"}


def test_many_files_of_one_owner_leave_room_for_others() -> None:
    """The files of somebody without an account stay on the list for ever."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE quakegrid_left_file (path TEXT, user_name TEXT, noted_s REAL)")
        rows = [(f"/b/calc_{number}.hdf5", "ben", number) for number in range(600)]
        rows += [("/a/calc_2.hdf5", "anna", 1000.0), ("/a/calc_1.hdf5", "anna", 999.0)]
        database.executemany("INSERT INTO quakegrid_left_file VALUES (?, ?, ?)", rows)
        query, limits = removals_module.LEFT.replace("?x", "?"), (MOST_OF_OWNER, MOST_FILES)

        found = database.execute(query, limits).fetchall()

    assert [path for path, owner in found if owner == "anna"] == ["/a/calc_1.hdf5", "/a/calc_2.hdf5"]
    assert len(found) == MOST_OF_OWNER + 2
