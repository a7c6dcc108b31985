"""What differs between two calculations, as far as the service finds it by itself."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.services.web.pages import comparisons
from quakegrid.services.web.persons.handed_files import HandedFile
from quakegrid.services.web.persons.whose import SERVICE, Whose


class Files:
    """Gives what drivers would make: texts by view and calculation, or errors.

    Args:
        made: by them.
    """

    def __init__(self, folder: Path, made: Mapping[tuple[str, ...], Any]) -> None:
        self._folder, self._made = folder, made
        self.opened: list[HandedFile] = []
        self.askers: list[str] = []

    async def file(
        self, name: str, *args: str, whose: Whose = SERVICE, given: Sequence[HandedFile] = (), asker: str = ""
    ) -> HandedFile:
        """A file that is open."""
        assert all(each.is_open for each in given)
        assert (name == "differences") is (whose == SERVICE)
        self.askers.append(asker)
        made = self._made[name, *args]
        if isinstance(made, Exception):
            await asyncio.sleep(0)
            raise made
        path = self._folder / f"{len(self.opened)}"
        path.write_text(made if isinstance(made, str) else json.dumps(made))
        number = os.open(path, os.O_RDONLY)
        self.opened.append(HandedFile(number, os.fstat(number), {"file_name": name}))
        return self.opened[-1]


NOTHING: dict[str, Any] = {"inputs": [], "results": [], "only": [[], []], "left_out": [0, 0]}
MADE: dict[tuple[str, ...], Any] = {
    ("parameters", "1"): {"truncation_level": "3", "poes": "[0.1]", "base_path": "/a", "same": "1"},
    ("parameters", "2"): {"truncation_level": "2", "base_path": "/b", "same": "1"},
    ("numbers", "1"): "",
    ("numbers", "2"): "",
    ("differences",): NOTHING,
}


def results(files: Files) -> dict[str, Any]:
    """What differs between the results of calculations 1 and 2."""

    async def found() -> dict[str, Any]:
        readers = [Whose("ben", "anna"), Whose("ben", "anna")]
        try:
            return await comparisons._results(files, [1, 2], readers, "anna")  # type: ignore[arg-type]
        finally:
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)

    return asyncio.run(found())


def test_parameters_that_differ_are_told(tmp_path: Path) -> None:
    """With those that one of them does not have; where files were is no parameter."""
    files = Files(tmp_path, MADE)

    assert results(files)["parameters"] == [
        {"name": "poes", "values": ["[0.1]", None]},
        {"name": "truncation_level", "values": ["3", "2"]},
    ]
    assert not any(file.is_open for file in files.opened)
    assert files.askers[-1] == "anna"  # who waits for the driver that compares
    same = MADE | {("parameters", "2"): MADE["parameters", "1"]}
    assert results(Files(tmp_path, same))["parameters"] == []


@pytest.mark.parametrize("failing", sorted(MADE))
def test_failed_comparison_closes_its_files(tmp_path: Path, failing: tuple[str, ...]) -> None:
    """Whichever part fails: each file that stays open takes a place for ever."""
    files = Files(tmp_path, MADE | {failing: errors.NotFoundError("gone")})

    with pytest.raises(errors.NotFoundError, match="gone"):
        results(files)

    assert files.opened
    assert not any(file.is_open for file in files.opened)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "[" * 100_000])
def test_parameters_that_a_person_has_made_up_are_refused(tmp_path: Path, text: str) -> None:
    """In words."""
    files = Files(tmp_path, MADE | {("parameters", "2"): text})

    with pytest.raises(errors.QuakeGridError, match="parameters of job 2 cannot be read"):
        results(files)


def test_parameters_are_read_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person may make them as large as they like, up to a bound."""
    threads = []

    def loads(text: bytes) -> Any:
        threads.append(threading.current_thread())
        return json.JSONDecoder().decode(text.decode())

    monkeypatch.setattr(comparisons, "json", SimpleNamespace(loads=loads))
    results(Files(tmp_path, MADE))

    assert len(threads) == 3
    assert threading.main_thread() not in threads


SAME = {"name": "a", "size": 10, "count": 10, "is_same": True}
PART = SAME | {"size": 5_000, "count": 4_000}
OTHER = SAME | {"is_same": False}
SHAPES = {"name": "a", "size": 10, "is_same": False}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "They have no numbers to compare."),
        ({"results": [SAME]}, "All numbers are the same, to the last digit."),
        (
            {"results": [SAME, PART]},
            (
                "All numbers that were compared are the same, to the last digit. Of 1 result only the first "
                "numbers were compared: 4,000 of 5,000."
            ),
        ),
        (
            {"results": [PART, PART, OTHER]},
            "1 of 3 results differs. Of 2 results only the first numbers were compared: 8,000 of 10,000.",
        ),
        (
            {"results": [SAME, SAME | {"count": 0, "is_same": None}]},
            (
                "All numbers that were compared are the same, to the last digit. Of 1 result only the first "
                "numbers were compared: 0 of 10."
            ),
        ),
        ({"results": [SAME, SHAPES], "only": [["b"], []]}, "2 of 3 results differ."),
        (
            {"results": [SAME], "left_out": [0, 3]},
            (
                "All numbers that were compared are the same, to the last digit. Further results were not "
                "compared: there are too many."
            ),
        ),
    ],
)
def test_verdict_says_no_more_than_was_compared(found: dict[str, Any], words: str) -> None:
    """The same to the last digit is what was compared only, and no text."""
    assert comparisons.verdict(NOTHING | found) == words


def test_times_are_told_where_one_is_known() -> None:
    """Records of tasks are removed some day."""
    found = {each["name"]: each["values"] for each in comparisons.other_times({"wall_s": 2.5}, None)}

    assert found["wall_s"] == [2.5, None]
    assert comparisons.other_times(None, None) == []
