"""Where the demo puts its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.cli import demo


@pytest.mark.parametrize(
    ("folder", "places"),
    [
        ("mine", ["mine", "mine-2"]),
        (".", ["quakegrid-demo", "quakegrid-demo-2"]),
        ("..", ["../quakegrid-demo", "../quakegrid-demo-2"]),
    ],
)
def test_each_demo_has_a_folder_of_its_own(
    folder: str, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder that was named has no name."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    made = [demo._fresh(Path(folder)) for _ in places]

    assert made == [Path(place) for place in places]
    assert all(path.is_dir() for path in made)
