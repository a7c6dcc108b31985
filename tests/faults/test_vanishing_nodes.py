"""One node after the other vanishes under the task that it runs: the job goes on with those that are left."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.support.calls import sdk_calls
from tests.support.nodes import running_nodes, wait_until
from tests.support.processes import Service

WAIT_S = 60.0
HOST_CORES = ", ".join(f"127.0.0.{number} 1" for number in range(1, 5))


def family(service: Service) -> list[psutil.Process]:
    """A service and all that came from it."""
    assert service.process is not None
    process = psutil.Process(service.process.pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.full
def test_long_task_outlives_as_many_nodes_as_it_has_attempts(tmp_path: Path) -> None:
    """Each is stopped as a whole, so nobody of it says a word; none of them comes back."""
    begins, gate = tmp_path / "begins", tmp_path / "gate"
    begins.touch()
    with running_nodes(tmp_path / "nodes", HOST_CORES) as nodes:
        agents = [nodes.agent(number) for number in range(1, 5)]
        wait_until(lambda: len(nodes.up()) == len(agents))
        assert nodes.master.max_attempts == len(agents) - 1
        with nodes.cluster() as cluster, cluster.executor(max_workers=1) as executor:
            waiting = executor.submit(sdk_calls.begin_and_wait, str(begins), str(gate))
            for count in range(1, len(agents)):
                wait_until(lambda: len(begins.read_text().splitlines()) == count)  # noqa: B023
                pid = int(begins.read_text().split()[-1])
                processes = next(each for each in map(family, agents) if pid in {p.pid for p in each})
                for process in processes:
                    process.send_signal(signal.SIGSTOP)
            wait_until(lambda: len(begins.read_text().splitlines()) == len(agents))
            gate.touch()

            assert waiting.result(WAIT_S) == str(gate)
            assert len(nodes.up()) == 1
