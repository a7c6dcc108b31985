"""The drivers' log: whose file it is, and that it does not grow for ever."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from quakegrid.errors import QuakeGridError
from quakegrid.services.agent.node.output import driver_logs
from quakegrid.services.agent.packets import close_all


def test_drivers_add_to_one_log_of_this_user(tmp_path: Path) -> None:
    """Its folder is made, for this user alone."""
    for word in (b"one", b"two"):
        nothing, out, err = driver_logs.open_stdio(tmp_path / "logs")
        assert os.read(nothing, 1) == b""
        os.write(out, word)
        os.write(err, b"\n")
        close_all([nothing, out, err])

    log = tmp_path / "logs" / "drivers.log"
    assert log.read_bytes() == b"one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_overgrown_log_is_put_aside(tmp_path: Path) -> None:
    """One of them is kept."""
    with (tmp_path / "drivers.log").open("wb") as file:
        file.truncate(driver_logs.MAX_LOG_BYTES + 1)

    close_all(driver_logs.open_stdio(tmp_path))

    assert (tmp_path / "drivers.log").stat().st_size == 0
    assert (tmp_path / "drivers.log.1").stat().st_size == driver_logs.MAX_LOG_BYTES + 1


def test_driver_that_goes_on_writes_on_into_the_log_that_was_emptied(tmp_path: Path) -> None:
    """A file that was renamed under it would grow for as long as it lives, where nobody looks."""
    nothing, out, err = driver_logs.open_stdio(tmp_path)
    os.truncate(out, driver_logs.MAX_LOG_BYTES + 1)

    driver_logs.put_aside(tmp_path)
    os.write(out, b"still here\n")
    close_all([nothing, out, err])

    assert (tmp_path / "drivers.log").read_bytes() == b"still here\n"
    assert (tmp_path / "drivers.log.1").stat().st_mode & 0o777 == 0o600


def test_full_disk_costs_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is emptied all the more."""
    close_all(driver_logs.open_stdio(tmp_path))
    os.truncate(tmp_path / "drivers.log", driver_logs.MAX_LOG_BYTES + 1)

    def fail(_source: Path, target: Path) -> None:
        target.write_bytes(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    driver_logs.put_aside(tmp_path)

    assert (tmp_path / "drivers.log").stat().st_size == 0
    assert not (tmp_path / "drivers.log.1").exists()


def test_log_that_cannot_be_written_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    """A folder, or a pipe that nobody reads: the agent does not wait for that."""
    before = len(list(Path("/proc/self/fd").iterdir()))

    for make in (Path.mkdir, os.mkfifo):
        log_dir = tmp_path / make.__name__
        log_dir.mkdir()
        make(log_dir / "drivers.log")
        with pytest.raises(QuakeGridError, match=r"drivers.log cannot be written"):
            driver_logs.open_stdio(log_dir)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
