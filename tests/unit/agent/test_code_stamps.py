"""Stamps of the code on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.services.agent.node.templates import code_stamps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An import path with nothing on it but this folder."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def test_stamp_changes_with_a_source_file_of_a_preloaded_package(folder: Path) -> None:
    """In any folder of it; what nobody imports does not count."""
    inner = folder / "probe" / "inner"
    inner.mkdir(parents=True)
    (folder / "probe" / "__init__.py").touch()
    (inner / "deep.py").write_text("X = 1\n")
    before = code_stamps.look(("openquake", "probe.inner"))

    (inner / "data.txt").write_text("new\n")
    same = code_stamps.look(("openquake", "probe.inner"))
    (inner / "deep.py").write_text("X = 1000\n")
    changed = code_stamps.look(("openquake", "probe.inner"))

    assert same == before
    assert changed != before


def test_stamp_changes_when_an_optional_part_of_the_engine_comes(folder: Path) -> None:
    """A template that was loaded before has None in its place."""
    before = code_stamps.look(())

    (folder / "networkx-3.6.1.dist-info").mkdir()

    assert code_stamps.look(()) != before


def test_stamp_changes_when_a_missing_module_comes(folder: Path) -> None:
    """A node that is cold for want of it can warm up."""
    before = code_stamps.look(("probe_module",))

    (folder / "probe_module.py").write_text("X = 1\n")

    assert code_stamps.look(("probe_module",)) != before


def test_stamp_changes_with_an_installed_distribution(folder: Path) -> None:
    """Another version is another folder; the same one installed again is another RECORD."""
    info = folder / "openquake_engine-3.26.2.dist-info"
    info.mkdir()
    stamps = [code_stamps.look(())]
    (info / "RECORD").write_text("a\n")
    stamps.append(code_stamps.look(()))
    info.rename(folder / "openquake.engine-3.26.3.dist-info")
    stamps.append(code_stamps.look(()))

    assert len(set(stamps)) == 3
