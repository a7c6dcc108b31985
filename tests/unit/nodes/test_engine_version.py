"""Which engines are accepted, and in which words the others are refused."""

from __future__ import annotations

from importlib import metadata

import pytest

from quakegrid import errors
from quakegrid.nodes import engine_version


def test_missing_engine_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, and the command that installs it."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)

    with pytest.raises(errors.EngineMissingError, match=r"is not installed .*pip install"):
        engine_version.check_engine()


@pytest.mark.parametrize("version", ["3.25.1", "3.27.0", "3.260.0", "4.0"])
def test_other_engine_names_both_versions(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The one that is there and the one that is needed."""
    monkeypatch.setattr(metadata, "version", lambda _name: version)

    with pytest.raises(errors.EngineMissingError, match=rf"{version} is installed.*3\.26\.x"):
        engine_version.check_engine()


@pytest.mark.parametrize("version", ["3.26", "3.26.2", "3.26.10"])
def test_every_release_of_the_series_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Patch releases keep the seams."""
    monkeypatch.setattr(metadata, "version", lambda _name: version)

    assert engine_version.check_engine() == version
