"""What the demo reads of the engine's files, and draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.cli import demo
from quakegrid.cli.views import demo_figure
from quakegrid.cli.views.demo_figure import HazardMap
from quakegrid.cli.views.hazard_curves import HazardCurves

HAZARD = HazardMap(((13.0, 42.0), (13.5, 42.0), (13.0, 42.5), (13.5, 42.5)), (0.1, 0.2, 0.3, 0.4))
LOSSES = """#,,,,,"generated_by='OpenQuake engine 3.26.2'"
asset_id,taxonomy,town,lon,lat,structural
a-1,masonry,Alba,13.10,42.10,100.0
b-1,masonry,Borgo,13.45,42.40,250.0
a-2,concrete,Alba,13.10,42.10,200.0
"""


def test_map_has_the_one_column_of_values(tmp_path: Path) -> None:
    """Whatever its probability is called."""
    path = tmp_path / "map.csv"
    path.write_text("#,,\"kind='mean'\"\nlon,lat,PGA-0.1\n13.0,42.0,0.5\n13.1,42.0,0.25\n", encoding="utf-8")

    found = demo_figure.read_map(path)

    assert found == HazardMap(((13.0, 42.0), (13.1, 42.0)), (0.5, 0.25))


def test_losses_of_a_town_are_those_of_its_assets(tmp_path: Path) -> None:
    """The largest first, each with the shaking at the nearest site."""
    path = tmp_path / "losses.csv"
    path.write_text(LOSSES, encoding="utf-8")

    found = demo_figure.read_towns(path, HAZARD)

    assert [(town.name, town.loss, town.acceleration_g) for town in found] == [
        ("Alba", 300.0, 0.1),
        ("Borgo", 250.0, 0.4),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_figure_is_drawn(tmp_path: Path) -> None:
    """A PNG with map, curves and losses, also where a curve ends in zeros."""
    losses = tmp_path / "losses.csv"
    losses.write_text(LOSSES, encoding="utf-8")
    curves = HazardCurves("PGA", 50.0, HAZARD.sites, (0.1, 0.2, 0.4), ((0.9, 0.5, 0.0),) * 4)
    path = tmp_path / "demo.png"

    assert demo_figure.draw(HAZARD, curves, demo_figure.read_towns(losses, HAZARD), path)

    assert path.read_bytes().startswith(b"\x89PNG")


def test_model_is_copied_whole(tmp_path: Path) -> None:
    """With a folder for the results."""
    case = demo.copy_case(tmp_path / "mine")

    assert {"job.ini", "job_risk.ini", "source_model.xml", "exposure.csv", "out"} <= {
        path.name for path in case.iterdir()
    }
