"""Unshared memory of worker processes before their first task: ours, and those of the plain engine.

Unshared (USS) is what a process adds to the memory in use: what only it has mapped, in pages.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from quakegrid import testing
from quakegrid.clients import agent
from quakegrid.settings import config


def our_worker_bytes(state_dir: Path, run_job: Callable[[], object]) -> int:
    """Run a job on a cluster of this machine and watch its workers from their start.

    A worker's memory only grows while it works, so its smallest sample is from before its first task.
    Only sleeping workers count: one that runs may not have finished setting itself up.

    Args:
        state_dir: of the cluster.
        run_job: returns when the job is over.
    Returns:
        The largest worker's unshared memory, bytes.
    Raises:
        RuntimeError: no worker was seen.
    """
    smallest: dict[int, int] = {}
    client = agent.AgentClient(config.load_settings(state_dir, {}))
    try:
        with ThreadPoolExecutor(1) as executor:
            run = executor.submit(run_job)
            while not run.done():
                for worker in client.status().workers:
                    uss = _sleeping_uss(worker.pid)
                    if uss:
                        smallest[worker.pid] = min(uss, smallest.get(worker.pid, uss))
            run.result()
    finally:
        client.close()
    if not smallest:
        raise RuntimeError("no idle worker was seen while the calculation ran")
    return max(smallest.values())


def _sleeping_uss(pid: int) -> int:
    """Unshared bytes of a process that waits for something; 0 when it runs or has ended."""
    try:
        process = psutil.Process(pid)
        return int(process.memory_full_info().uss) if process.status() == psutil.STATUS_SLEEPING else 0
    except psutil.Error:
        return 0


def plain_worker_bytes(home: Path) -> int:
    """The unshared memory of a worker of the plain engine's process pool, bytes.

    Args:
        home: a directory for the engine to call HOME.
    """
    script = Path(__file__).with_name("plain_pool.py")
    environ = testing.isolated_environ(home)
    done = subprocess.run(
        [sys.executable, script], env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout.split()[-1])
