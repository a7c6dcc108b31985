"""Processes where no descriptor pins them: signals go to the number, after a look at it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import pytest

from quakegrid.machine import local_services, pinned_processes, process_stats, service_files
from quakegrid.services.agent.linux import orphans


def refuse_pins(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    """Let the kernel refuse a descriptor of a process; 0: Python does not even know of such."""
    if not reason:
        monkeypatch.delattr(os, "pidfd_open")
        return

    def refuse(_pid: int, _flags: int = 0) -> int:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.mark.parametrize("reason", [errno.ENOSYS, errno.EMFILE, 0])
def test_orphans_are_killed_where_nothing_pins_a_process(
    monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """On older kernels, by a Python that was built for one, or without descriptors left."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        refuse_pins(monkeypatch, reason)

        assert orphans.end_orphans(lambda each: each.pid != process.pid) == [process.pid]
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("reason", [errno.ENOSYS, 0])
def test_process_that_is_gone_is_known_where_nothing_pins_one(
    monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """And another user's is there."""
    process = subprocess.Popen(["true"])
    process.wait()
    refuse_pins(monkeypatch, reason)

    with pytest.raises(ProcessLookupError), pinned_processes.pinned(process.pid) as send:
        send(signal.SIGTERM)
    assert pinned_processes.open_pin(1) is None


@pytest.mark.parametrize("reason", [errno.ENOSYS, 0])
def test_service_is_stopped_where_nothing_pins_a_process(
    monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """It is looked at until it is gone."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        ticks = process_stats.start_ticks(process.pid)
        record = service_files.ServiceFile("broker", process.pid, ticks, "", "")
        refuse_pins(monkeypatch, reason)

        assert local_services.stop(record, 10.0)
        assert process.wait() == -signal.SIGINT
        assert local_services.stop(record, 10.0)


def test_no_orphan_is_found_without_a_descriptor_to_look_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next end of a child lets the agent look again."""

    def refuse(_path: str) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", refuse)

    assert orphans.end_orphans(lambda _process: False) == []
