"""One agent a state directory, and whose processes an agent ends."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quakegrid import config, errors, testing
from quakegrid.config import AGENT_MARK
from services.agent import orphans
from services.agent.state_lock import LOCK_NAME, StateLock, in_environment, mark_family
from tests.integration.processes import Service

TIMEOUT_S = 30.0
NOBODY = 65534
CLONE_NEWPID = 0x20000000
CLONE_NEWNS = 0x00020000
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


def in_child(act: Callable[[], int]) -> int:
    """The exit code of a fork that does something."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_root
def test_child_of_another_user_is_left_and_the_rest_is_ended() -> None:
    """As after `sudo program &` in a task: whoever cleans up goes on."""
    reader, writer = os.pipe()

    def act() -> int:
        stranger = os.fork()
        if stranger == 0:
            os.close(writer)
            os.read(reader, 1)  # until the test ends
            os._exit(0)
        os.setuid(NOBODY)
        own = os.fork()
        if own == 0:
            signal.pause()
        found = orphans.end_orphans(lambda _process: False)
        is_ended = os.waitpid(own, 0)[1] == signal.SIGKILL
        is_left = os.waitpid(stranger, os.WNOHANG) == (0, 0)
        return 0 if set(found) == {own, stranger} and is_ended and is_left else 1

    code = in_child(act)
    os.close(writer)
    os.close(reader)

    assert code == 0


@needs_root
def test_process_1_of_a_container_ends_only_what_carries_its_mark() -> None:
    """Others start processes there, too, such as `kubectl exec`; those that ended are reaped."""

    def be_process_1() -> int:
        mark = "1-2-x"
        for environ, seconds in (({AGENT_MARK: mark}, "1000"), ({}, "1000"), ({}, "0")):
            # They lose their parent, and come to process 1.
            subprocess.run(
                ["setsid", "-f", "sleep", seconds], env={"PATH": os.environ["PATH"], **environ}, check=True
            )
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            orphans.end_adopted(in_environment(mark))
            left = [each.pid for each in orphans._processes() if each.parent == 1]
            if len(left) == 1 and b"1000" in Path(f"/proc/{left[0]}/cmdline").read_bytes():
                return int(AGENT_MARK.encode() in Path(f"/proc/{left[0]}/environ").read_bytes())
        return 1

    def act() -> int:
        if ctypes.CDLL(None).unshare(CLONE_NEWNS | CLONE_NEWPID):
            return 77

        def with_proc() -> int:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
            return be_process_1()

        return in_child(with_proc)

    code = in_child(act)
    if code == 77:
        pytest.skip("no namespaces here")
    assert code == 0
