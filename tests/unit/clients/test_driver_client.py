"""The command line's end of the agent's unix socket."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.clients import detached_drivers, drivers
from quakegrid.clients.drivers import DriverRequest
from quakegrid.settings import config
from quakegrid.settings.config import Settings

TIMEOUT_S = 30.0


class FakeAgent:
    """Answers one command line with these bytes; keeps what it sent."""

    def __init__(self, path: Path, answer: bytes) -> None:
        path.parent.mkdir(parents=True)
        self.request: dict[str, Any] = {}
        self.fd_count = -1
        self._answer, self._listener = answer, socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            line, fds, _flags, _address = socket.recv_fds(connection, 1 << 20, 3)
            self.request, self.fd_count = json.loads(line), len(fds)
            for fd in fds:
                socket.close(fd)
            connection.sendall(self._answer)

    def close(self) -> None:
        """Wait until it is done."""
        self._thread.join(TIMEOUT_S)
        self._listener.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a cluster whose agent is the test's."""
    return config.load_settings(tmp_path, {})


def run(settings: Settings, answer: bytes, mode: str) -> tuple[int, list[dict[str, Any]], FakeAgent]:
    """Run a driver that the agent answers so."""
    agent, events = FakeAgent(config.agent_socket(settings.state_dir), answer), []
    code = drivers.run_driver(settings, ["info"], mode=mode, on_event=events.append)
    agent.close()
    return code, events, agent


def test_event_that_its_driver_could_not_complete_hides_no_exit(settings: Settings) -> None:
    """It was killed in the middle of a line, or at its end."""
    answer = b'{"event": "job", "job_id": 5}\n{"event": "progress", "text": "' + b"x" * 100_000
    answer += b'\n{"event": "exit", "code": 137}\n'

    code, events, _agent = run(settings, answer, "run")

    assert code == 137
    assert events == [{"event": "job", "job_id": 5}]


def test_lines_that_are_no_events_are_passed_over(settings: Settings) -> None:
    """Empty ones, and what is no object."""
    code, events, _agent = run(settings, b'\n7\n{}\n\n{"event": "exit", "code": 0}\n', "run")

    assert (code, events) == (0, [])


@pytest.mark.parametrize(("mode", "fd_count"), [("oq", 3), ("run", 0)])
def test_only_drivers_with_a_terminal_get_descriptors(settings: Settings, mode: str, fd_count: int) -> None:
    """The log of the others is the agent's to open: as root we would follow what others put there."""
    code, _events, agent = run(settings, b'{"event": "exit", "code": 0}\n', mode)

    assert code == 0
    assert (agent.request["mode"], agent.fd_count) == (mode, fd_count)
    assert not settings.log_dir.exists()


CAN_LEAVE = b'{"event": "detachable"}\n'
JOB = b'{"event": "job", "job_id": 5}\n'
READ = b'{"event": "inputs_read", "job_id": 5}\n'
QUEUED = b'{"event": "queued", "ahead_job_ids": [4]}\n'


def start(settings: Settings, answer: bytes, **options: bool) -> tuple[tuple[int, ...], FakeAgent]:
    """Start a calculation that goes on by itself, at an agent that answers so."""
    agent = FakeAgent(config.agent_socket(settings.state_dir), answer)
    request = DriverRequest(
        ["engine", "--run", "job.ini"], is_detachable=True, environ={"A": "b"}, cwd="/elsewhere"
    )
    try:
        return detached_drivers.start_detached(settings, request, **options), agent
    finally:
        agent.close()


@pytest.mark.parametrize("last", [READ, QUEUED])
def test_detached_calculation_is_left_when_its_inputs_were_read_or_wait(
    settings: Settings, last: bytes
) -> None:
    """Its jobs are known then; what comes before the first of them starts nothing."""
    found, agent = start(settings, CAN_LEAVE + JOB + JOB.replace(b"5", b"6") + last)

    assert found == (5, 6)
    assert (agent.request["is_detachable"], agent.request["environ"]) == (True, {"A": "b"})
    assert agent.request["cwd"] == "/elsewhere"


def test_detached_calculation_may_be_left_when_its_job_exists(settings: Settings) -> None:
    """The web does not wait for large inputs."""
    assert start(settings, CAN_LEAVE + JOB, waits_for_inputs=False)[0] == (5,)


@pytest.mark.parametrize(("code", "error"), [(2, errors.UsageError), (1, errors.QuakeGridError)])
def test_calculation_that_fails_at_once_is_an_error_with_its_words(
    settings: Settings, code: int, error: type[Exception]
) -> None:
    """A wrong job file is a matter of usage."""
    words = b'{"event": "error", "message": "no such mode", "job_id": null}\n'

    with pytest.raises(error, match="no such mode") as caught:
        start(settings, CAN_LEAVE + words + b'{"event": "exit", "code": %d}\n' % code)
    assert type(caught.value) is error


def test_calculation_that_has_ended_at_once_is_started(settings: Settings) -> None:
    """Or its driver was killed without a word."""
    assert start(settings, CAN_LEAVE + JOB + b'{"event": "exit", "code": 0}\n')[0] == (5,)


def test_calculation_that_was_killed_at_once_is_an_error(settings: Settings) -> None:
    """That names where to look."""
    with pytest.raises(errors.QuakeGridError, match=r"exit code 137.*jobs list"):
        start(settings, CAN_LEAVE + JOB + b'{"event": "exit", "code": 137}\n')


def test_agent_of_an_older_release_would_end_what_is_left(settings: Settings) -> None:
    """So nothing is left to it."""
    with pytest.raises(errors.StateError, match="older release"):
        start(settings, JOB + READ)


def test_agent_that_goes_away_is_an_error(settings: Settings) -> None:
    """As in a run that is followed."""
    with pytest.raises(errors.PeerUnreachableError, match="agent went away"):
        start(settings, CAN_LEAVE)
