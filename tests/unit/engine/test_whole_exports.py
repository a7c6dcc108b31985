"""Exports are whole files or none, whatever happens to an exporter."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.engine.driver import exports, parameters
from quakegrid.engine.driver.exports import WholeExports


class Store:
    """What an exporter sees of a datastore: where to write to."""

    calc_id = 7

    def __init__(self, folder: Path) -> None:
        self.export_dir = str(folder)

    def write(self, name: str, text: str = "1,2\n") -> str:
        """Write a file, as exporters do."""
        path = Path(self.export_dir, name)
        path.write_text(text, encoding="utf-8")
        return str(path)


@pytest.fixture
def table() -> WholeExports:
    """A table of exporters of one's own."""
    found = WholeExports()
    found.written, found.failures = [], []
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that exports into a folder which is not there yet."""
    return Store(tmp_path / "out")


def add(table: WholeExports, name: str, exporter: Callable[[tuple[str, str], Any], list[str]]) -> None:
    """Register an exporter of CSV."""
    table.add((name, "csv"))(exporter)


def test_files_are_in_their_folder_and_nothing_else_is(table: WholeExports, store: Store) -> None:
    """The paths are those of the files at the end; an older file is replaced."""
    folder = Path(store.export_dir)
    folder.mkdir()
    (folder / "a.csv").write_text("old", encoding="utf-8")
    add(table, "curves", lambda _key, dstore: [dstore.write("a.csv"), dstore.write("b.csv")])

    paths = table(("curves", "csv"), store)

    assert paths == [str(folder / "a.csv"), str(folder / "b.csv")] == table.written
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv", "b.csv"]
    assert (folder / "a.csv").read_text(encoding="utf-8") == "1,2\n"
    assert store.export_dir == str(folder)


def test_exporter_that_fails_leaves_nothing(table: WholeExports, store: Store) -> None:
    """Half of a file is no file, and what was there before stays."""
    folder = Path(store.export_dir)
    folder.mkdir()
    (folder / "a.csv").write_text("old", encoding="utf-8")

    def fill_disk(_key: tuple[str, str], dstore: Store) -> list[str]:
        dstore.write("a.csv", "")
        raise OSError(errno.ENOSPC, "No space left on device", dstore.export_dir)

    add(table, "curves", fill_disk)

    with pytest.raises(OSError, match="No space left"):
        table(("curves", "csv"), store)

    assert [path.name for path in folder.iterdir()] == ["a.csv"]
    assert (folder / "a.csv").read_text(encoding="utf-8") == "old"
    assert list(map(str, table.failures)) == ["curves as csv: No space left on device"]
    assert table.written == []
    assert store.export_dir == str(folder)


def test_disk_that_fails_late_leaves_nothing(
    table: WholeExports, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems accept what they cannot store; `fsync` tells."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    add(table, "curves", lambda _key, dstore: [dstore.write("a.csv")])
    monkeypatch.setattr(exports.os, "fsync", fail)

    with pytest.raises(OSError, match="quota"):
        table(("curves", "csv"), store)

    assert list(Path(store.export_dir).iterdir()) == []


def test_exporter_that_calls_another_is_moved_once(table: WholeExports, store: Store) -> None:
    """The inner one writes where the outer one does."""
    add(table, "inner", lambda _key, dstore: [dstore.write("inner.csv")])
    add(table, "outer", lambda _key, dstore: [*table(("inner", "csv"), dstore), dstore.write("outer.csv")])

    paths = table(("outer", "csv"), store)

    folder = Path(store.export_dir)
    assert paths == [str(folder / "inner.csv"), str(folder / "outer.csv")] == table.written
    assert {path.name for path in folder.iterdir()} == {"inner.csv", "outer.csv"}


def test_output_without_exporter_is_the_engines_own_error(table: WholeExports, store: Store) -> None:
    """No folder is made for it, and no failure is counted."""
    with pytest.raises(KeyError):
        table(("curves", "csv"), store)

    assert not Path(store.export_dir).exists()
    assert table.failures == []


def test_folder_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    """No usage error: the same command works elsewhere."""
    exports.make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()

    with pytest.raises(
        errors.QuakeGridError, match=r"cannot export into .*file/x: Not a directory"
    ) as caught:
        exports.make_folder(tmp_path / "file" / "x")

    assert caught.value.exit_code == 1
    assert (tmp_path / "a" / "b").is_dir()


def test_failed_exports_are_told(table: WholeExports, capsys: pytest.CaptureFixture[str]) -> None:
    """The command must not end with success."""
    assert not exports.tell_failures(table)
    table.failures.append(exports.ExportFailure("curves", "csv", "no space left"))

    assert exports.tell_failures(table)
    assert capsys.readouterr().err == "quakegrid: not exported: curves as csv: no space left\n"


def test_unknown_format_is_refused_with_those_there_are(table: WholeExports) -> None:
    """Before a calculation begins."""
    table |= {("curves", "xml"): None, ("curves", "csv"): None, ("maps", "csv"): None}

    assert exports.check_formats("csv, xml,", table.formats) == ["csv", "xml"]
    with pytest.raises(errors.UsageError, match=r"no export format pdf; there are csv, xml$"):
        exports.check_formats("csv,pdf", table.formats)


def test_unknown_parameter_is_refused_with_the_nearest() -> None:
    """The engine would warn and use the wrong value."""
    known = {"truncation_level", "description"}

    parameters.check(["truncation_level", "description"], known)
    with pytest.raises(errors.UsageError, match=r"truncation_levl: .* did you mean truncation_level\?"):
        parameters.check(["truncation_levl"], known)
    with pytest.raises(errors.UsageError, match=r"no such parameter$"):
        parameters.check(["x"], known)
    with pytest.raises(errors.UsageError, match="input files cannot be overridden"):
        parameters.check(["site_model_file"], known)
    with pytest.raises(errors.UsageError, match="-p exposure: input files cannot be overridden"):
        parameters.check(["exposure"], known, {"exposure"})
