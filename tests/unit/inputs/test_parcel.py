"""How the files of a calculation are laid out to be sent."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.inputs import parcel


def write(folder: Path, texts: dict[str, str]) -> None:
    """Make files."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_names_are_relative_to_the_folder_that_holds_all(tmp_path: Path) -> None:
    """So that `../` leads to the same file there as here, and nothing leads out."""
    write(
        tmp_path,
        {
            "a/model/job.ini": "exposure_file = ../../shared/e.xml\nsite_model_file = s.csv\nexports = csv\n",
            "a/model/s.csv": "lon,lat\n",
            "shared/e.xml": "<e/>",
            "unnamed.xml": "",
        },
    )

    made = parcel.make(tmp_path / "a" / "model" / "job.ini")

    assert made.job_file == "a/model/job.ini"
    assert {item.name: item.path for item in made.items} == {
        "a/model/job.ini": tmp_path / "a/model/job.ini",
        "a/model/s.csv": tmp_path / "a/model/s.csv",
        "shared/e.xml": tmp_path / "shared/e.xml",
    }
    assert made.outside_count == 1
    assert (made.exports, made.export_dir) == ("csv", tmp_path / "a" / "model")
    assert {item.sha256 for item in made.items} == {
        hashlib.sha256(item.path.read_bytes()).hexdigest() for item in made.items
    }
    assert made.size_bytes == sum(item.path.stat().st_size for item in made.items)


def test_files_of_one_folder_have_plain_names(tmp_path: Path) -> None:
    """The usual case; the folder of exports is relative to it."""
    write(tmp_path, {"job.ini": "site_model_file = s.csv\nexport_dir = out\n", "s.csv": "1"})

    made = parcel.make(tmp_path / "job.ini")

    assert [item.name for item in made.items] == ["job.ini", "s.csv"]
    assert made.outside_count == 0
    assert made.export_dir == tmp_path / "out"


def test_archive_is_sent_alone(tmp_path: Path) -> None:
    """It holds all that it needs."""
    write(tmp_path, {"model.zip": "PK s.csv", "s.csv": "1"})

    made = parcel.make(tmp_path / "model.zip")

    assert (made.job_file, [item.name for item in made.items]) == ("model.zip", ["model.zip"])


def test_absolute_input_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """In words that name the line."""
    write(tmp_path, {"job.ini": f"site_model_file = {tmp_path}/s.csv\n", "s.csv": "1"})

    with pytest.raises(errors.UsageError, match=r"site_model_file = .*no absolute paths"):
        parcel.make(tmp_path / "job.ini")


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """By its path, and the reason."""
    with pytest.raises(errors.UsageError, match=r"job\.ini cannot be read: No such file"):
        parcel.make(tmp_path / "job.ini")


def test_file_that_goes_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between being found and being read."""
    write(tmp_path, {"job.ini": "site_model_file = s.csv\n", "s.csv": "1"})
    monkeypatch.setattr(os.path, "isfile", lambda _path: True)
    (tmp_path / "s.csv").unlink()

    with pytest.raises(errors.UsageError, match=r"s\.csv cannot be read"):
        parcel.make(tmp_path / "job.ini")


def test_shapefile_parts_are_seen_on_disk(tmp_path: Path) -> None:
    """Those beside it, of its name."""
    write(tmp_path, {"job.ini": "aggregate_file = a.shp\n", "a.shp": "", "a.dbf": "", "b.dbf": ""})

    assert [item.name for item in parcel.make(tmp_path / "job.ini").items] == ["job.ini", "a.shp", "a.dbf"]
