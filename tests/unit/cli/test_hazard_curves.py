"""The engine's hazard curve CSVs, read and drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.cli.views import hazard_curves

TEXT = """\
#,,,,"generated_by='OpenQuake engine 3.26.2', kind='mean', investigation_time=50.0, imt='SA(0.1)'"
lon,lat,depth,poe-0.1000000,poe-0.4000000
0.00000,1.00000,-0.10000,4.5E-01,0.0E+00
0.10000,1.00000,-0.10000,1.5E-01,5.0E-02
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An exported file."""
    path = tmp_path / "hazard_curve-mean-SA(0.1)_1.csv"
    path.write_text(TEXT)
    return path


def test_file_is_read_with_its_metadata(path: Path) -> None:
    """Levels come from the column names, type and time from the comment."""
    curves = hazard_curves.read_curves(path)

    assert (curves.imt, curves.years) == ("SA(0.1)", 50.0)
    assert curves.sites == ((0.0, 1.0), (0.1, 1.0))
    assert curves.levels == (0.1, 0.4)
    assert curves.poes == ((0.45, 0.0), (0.15, 0.05))


def test_other_file_is_refused_by_name(tmp_path: Path) -> None:
    """A file that is no hazard curve is named."""
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")

    with pytest.raises(errors.QuakeGridError, match=r"other\.csv"):
        hazard_curves.read_curves(path)


def test_figure_is_a_png(path: Path, tmp_path: Path) -> None:
    """Curves with zeros are drawn on logarithmic axes without a warning."""
    pytest.importorskip("matplotlib")
    curves = hazard_curves.read_curves(path)

    assert hazard_curves.draw([curves, curves], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("imt", "unit"), [("PGA", "g"), ("SA(1.0)", "g"), ("PGV", "cm/s"), ("IA", "")])
def test_unit_of_levels(imt: str, unit: str) -> None:
    """Units that we know, and silence on others."""
    assert hazard_curves.unit(imt) == unit
