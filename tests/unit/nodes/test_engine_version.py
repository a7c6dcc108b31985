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


@pytest.mark.parametrize("version", ["3.22.0", "3.27.0", "3.260.0", "3.2", "4.0"])
def test_other_engine_names_both_versions(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The one that is there and the one that is needed."""
    monkeypatch.setattr(metadata, "version", lambda _name: version)

    with pytest.raises(errors.EngineMissingError, match=rf"{version} is installed.*3\.23 to 3\.26"):
        engine_version.check_engine()


@pytest.mark.parametrize("version", ["3.26", "3.26.2", "3.26.10", "3.25.1", "3.24.1", "3.23.5"])
def test_every_release_of_the_series_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Patch releases keep the seams."""
    monkeypatch.setattr(metadata, "version", lambda _name: version)

    assert engine_version.check_engine() == version


def test_other_engine_is_tried_if_asked_and_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it is told to compare its numbers."""
    monkeypatch.setattr(metadata, "version", lambda _name: "3.27.0")

    assert engine_version.check_engine(tries_others=True) == "3.27.0"
    assert "3.27.0 was not tested" in engine_version.doubt()


def test_missing_engine_is_no_engine_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to try."""
    monkeypatch.setattr(engine_version, "installed_version", lambda: "")

    with pytest.raises(errors.EngineMissingError, match="is not installed"):
        engine_version.check_engine(tries_others=True)


def test_known_engine_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its results are those of the plain engine."""
    monkeypatch.setattr(metadata, "version", lambda _name: "3.23.5")

    assert engine_version.doubt() == ""
