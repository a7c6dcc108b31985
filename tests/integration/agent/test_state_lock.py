"""One agent a state directory, and whose processes an agent ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.services.agent.linux import orphans
from quakegrid.services.agent.node.state_lock import LOCK_NAME, StateLock, in_environment, mark_family
from quakegrid.settings import config
from quakegrid.settings.config import AGENT_MARK
from tests.support.calls import orphan_programs
from tests.support.processes import REPOSITORY, Service

TIMEOUT_S = 30.0
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has processes of several users")


@contextlib.contextmanager
def sleeper(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries a mark, in a session of its own."""
    environ = {**os.environ, AGENT_MARK: mark}
    with subprocess.Popen(["sleep", "1000"], env=environ, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_second_agent_of_a_directory_is_refused_and_names_the_first(tmp_path: Path) -> None:
    """A free lock is taken again, whatever its file says."""
    first = StateLock(tmp_path, "one")

    with pytest.raises(errors.StateError, match=rf"process {os.getpid()}\) runs with the state directory"):
        StateLock(tmp_path, "two")
    first.close()
    second = StateLock(tmp_path, "two")

    assert second.mark == f"{first.family}two"
    second.close()


def test_agent_of_another_machine_is_named(tmp_path: Path) -> None:
    """As where both have the same home directory."""
    first = StateLock(tmp_path, "one")
    record = {"host": "elsewhere", "boot_id": "other", "pid": 7, "instance_id": "x"}
    (tmp_path / "run" / LOCK_NAME).write_text(json.dumps(record))

    with pytest.raises(errors.StateError, match=r"an agent on elsewhere \(process 7 there\)"):
        StateLock(tmp_path, "two")
    first.close()


def test_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Nobody gets a file of ours made elsewhere."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_NAME).symlink_to(tmp_path / "victim")

    with pytest.raises(errors.QuakeGridError, match="cannot be used"):
        StateLock(tmp_path, "one")

    assert not (tmp_path / "victim").exists()


def test_only_what_carries_the_mark_of_this_directory_is_ended(tmp_path: Path) -> None:
    """Another directory has other marks, even if it has the same path somewhere else."""
    lock, other = StateLock(tmp_path / "one", "new"), StateLock(tmp_path / "two", "new")
    with sleeper(f"{lock.family}old") as ours, sleeper(other.mark) as theirs, sleeper(str(tmp_path)) as text:
        count = orphans.end_marked(in_environment(lock.family), TIMEOUT_S)

        assert ours.wait(TIMEOUT_S) == -signal.SIGKILL
        assert theirs.poll() is None
        assert text.poll() is None
    assert count == 1
    assert mark_family(tmp_path / "one" / "run" / LOCK_NAME) == lock.family
    lock.close()
    other.close()


def test_agent_does_not_start_beside_another_and_leaves_it_alone(tmp_path: Path) -> None:
    """Though its port is another: neither its template nor its socket is touched."""
    (tmp_path / "home").mkdir()
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    first = Service(settings, "agent")
    first.start()
    try:
        assert first.process is not None
        second = subprocess.run(
            [
                Path(sys.executable).with_name("agentctl"),
                *("--state-dir", settings.state_dir, "serve", "--join", "127.0.0.1:1", "--port", "0"),
            ],
            env=first.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(config.agent_socket(settings.state_dir)))

        assert (second.returncode, second.stdout) == (1, "")
        assert f"another agent (process {first.process.pid}) runs" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.process.poll() is None
    finally:
        assert first.stop() == 0


def test_number_that_is_another_process_by_now_is_not_killed() -> None:
    """It was seen with another start."""
    with sleeper("a-b-c") as process:
        (seen,) = [each for each in orphans._processes() if each.pid == process.pid]

        orphans._kill(dataclasses.replace(seen, start_ticks=seen.start_ticks - 1))
        assert process.poll() is None
        orphans._kill(seen)

        assert process.wait(TIMEOUT_S) == -signal.SIGKILL


def run_program(name: str) -> int:
    """The exit code of one of `orphan_programs`: a fork of this process would have gRPC's threads in it."""
    command = [sys.executable, "-m", "tests.support.calls.orphan_programs", name]
    return subprocess.run(command, cwd=REPOSITORY, timeout=2 * TIMEOUT_S, check=False).returncode


@needs_root
def test_child_of_another_user_is_left_and_the_rest_is_ended() -> None:
    """As after `sudo program &` in a task: whoever cleans up goes on."""
    assert run_program("child_of_another_user") == 0


@needs_root
def test_process_1_of_a_container_ends_only_what_carries_its_mark() -> None:
    """Others start processes there, too, such as `kubectl exec`; those that ended are reaped."""
    code = run_program("process_1")

    if code == orphan_programs.CANNOT:
        pytest.skip("no namespaces here")
    assert code == 0
