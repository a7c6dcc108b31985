"""Which job files there are, which start from others, and which are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.qa import catalogue
from tests.qa.catalogue import Group, JobFile

NAMES = ("b/case_1/job_risk.ini", "b/case_1/job_haz.ini", "b/case_2/job_r.ini", "a/job.ini", "a/job_risk.ini")


def test_job_files_with_their_hazard_are_a_group() -> None:
    """A risk without a hazard in its folder needs none, or says so itself."""
    assert catalogue.group(NAMES) == [
        Group((JobFile("a/job.ini"),)),
        Group((JobFile("a/job_risk.ini"),)),
        Group((JobFile("b/case_1/job_haz.ini"), JobFile("b/case_1/job_risk.ini", "b/case_1/job_haz.ini"))),
        Group((JobFile("b/case_2/job_r.ini"),)),
    ]


@pytest.mark.parametrize(
    ("pattern", "count"), [("", 4), ("a/", 2), ("b/case_1/job_risk", 1), ("case_2 a/job.ini", 2), ("none", 0)]
)
def test_groups_are_chosen_by_patterns_of_their_job_files(pattern: str, count: int) -> None:
    """A hazard comes with the risk that starts from it."""
    assert len(catalogue.choose(catalogue.group(NAMES), pattern)) == count


def test_shards_have_all_groups_once() -> None:
    """In parts of about the same size."""
    groups = catalogue.group(NAMES)

    shards = [catalogue.choose(groups, "", number, 3) for number in (1, 2, 3)]

    assert sorted((each for shard in shards for each in shard), key=lambda each: each.name) == groups
    assert {len(shard) for shard in shards} == {1, 2}


def test_stamp_changes_with_inputs_and_texts_but_not_with_compiled_files(tmp_path: Path) -> None:
    """So kept results are used as long as nothing changes that they depend on."""
    (tmp_path / "job.ini").write_text("[general]", encoding="utf-8")
    before = catalogue.stamp(tmp_path, ["x"])

    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").touch()
    same = catalogue.stamp(tmp_path, ["x"])
    other_text = catalogue.stamp(tmp_path, ["y"])
    (tmp_path / "job.ini").write_text("[other]..", encoding="utf-8")

    assert same == before
    assert len({before, other_text, catalogue.stamp(tmp_path, ["x"])}) == 3
