"""What an agent says of a process of its node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent.linux.processes import process_state


def test_process_that_runs_is_stopped_and_ends() -> None:
    """One that nobody has waited for yet is gone all the same."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        running = process_state(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        stopped = process_state(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended = process_state(process.pid)

    assert running == orders_pb2.PROCESS_STATE_RUNNING
    assert stopped == orders_pb2.PROCESS_STATE_STOPPED
    assert ended == orders_pb2.PROCESS_STATE_GONE
    assert process_state(process.pid) == orders_pb2.PROCESS_STATE_GONE
