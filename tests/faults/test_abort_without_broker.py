"""A broker is killed in the middle of an abort: the program or driver whose job it was ends all the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.nodes import NodeService, environment, running_nodes, wait_until
from tests.support.processes import REPOSITORY

END_S = 30.0
# The program of the harness, which kills the broker as soon as that has told it of the abort.
PROGRAM = """
import os, signal, sys
from tests.faults.harness import ending_program

broker_pid = int(sys.argv.pop())

def kill_broker(number, frame):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(broker_pid, signal.SIGKILL)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, kill_broker)
try:
    sys.exit(ending_program.main())
except KeyboardInterrupt:
    sys.exit(130)
"""
# A driver that hangs as soon as it is told of the abort, with Python's lock, so that no thread of it runs.
DRIVER = """
import ctypes, os, signal, sys
from quakegrid.sdk.cluster import Cluster
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from tests.faults.harness import ending_program

state_dir, broker_pid = sys.argv[1:]

def hang(number, frame):
    os.kill(int(broker_pid), signal.SIGKILL)
    ctypes.PyDLL(None).sleep(1000)

signal.signal(signal.SIGINT, hang)
with Cluster(state_dir) as cluster:
    job_id = ending_program.new_job(cluster)
    session = Session(cluster.settings, SessionOptions("ann", b"", [job_id], is_local=True, hang_grace_s=3))
    session.wait_for_turn(lambda ahead: None)
    ending_program.abort(cluster, job_id)
    session.receive()
"""


def test_aborted_program_ends_although_the_next_broker_knows_of_no_abort(tmp_path: Path) -> None:
    """Its tasks would go on for ever; the next broker would take it back as one that runs."""
    with running_nodes(tmp_path, "127.0.0.1 2", 1) as nodes:
        nodes.service(nodes.master, "dbserver")
        broker = nodes.broker.process
        assert broker is not None
        folder = tmp_path / "tasks"
        folder.mkdir()
        arguments = [str(nodes.master.state_dir), str(folder), "abort", str(broker.pid)]
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=environment(nodes.master),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
        ) as program:
            try:
                wait_until((folder / "begins").exists)
                assert program.stdin is not None
                program.stdin.close()
                broker.wait(END_S)
                nodes.keep(NodeService(nodes.master, "broker"))

                assert program.wait(END_S) == 130
            finally:
                program.kill()


def test_aborted_driver_that_hangs_is_ended_by_the_kernel(tmp_path: Path) -> None:
    """The next broker would not have it killed, as it knows of no abort."""
    with running_nodes(tmp_path, "127.0.0.1 2", 1) as nodes:
        nodes.service(nodes.master, "dbserver")
        broker = nodes.broker.process
        assert broker is not None
        with subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(nodes.master.state_dir), str(broker.pid)],
            env=environment(nodes.master),
            cwd=REPOSITORY,
        ) as driver:
            try:
                broker.wait(END_S)
                nodes.keep(NodeService(nodes.master, "broker"))

                assert driver.wait(END_S) == -signal.SIGALRM
            finally:
                driver.kill()
