"""Clusters of a program's own, seen from outside: scripts, their ends, and the user's settings."""

from __future__ import annotations

import ast
import contextlib
import doctest
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from types import ModuleType

import pytest

from quakegrid import Cluster, LocalCluster, errors, testing
from quakegrid.clients import agent as agents
from quakegrid.clients import drivers
from quakegrid.clients.broker import BrokerClient
from quakegrid.machine import local_services
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.sdk import cluster as cluster_module
from quakegrid.sdk import executor as executor_module
from quakegrid.settings import config
from tests.support.calls import sdk_calls

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "how-to" / "python-functions.md"


def run_script(folder: Path, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would."""
    (folder / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=testing.isolated_environ(folder) | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def wait_for_end(pid: int) -> bool:
    """Wait until a process is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(connection.wait([fd], 30))
    finally:
        os.close(fd)


def test_script_needs_no_main_guard_and_no_close(tmp_path: Path) -> None:
    """Functions and classes of the script itself work, and so do modules beside it; nothing is left."""
    (tmp_path / "beside.py").write_text("def triple(number):\n    return 3 * number\n")
    script = """
import beside
from quakegrid import LocalCluster

class Point:
    def __init__(self, x): self.x = x

factor = 2

def scale(point): return Point(point.x * factor)

cluster = LocalCluster(cores=1)
print(cluster.settings.state_dir)
executor = cluster.executor()
print(executor.submit(beside.triple, 5).result())
point = executor.submit(scale, Point(4)).result()
print(point.x, isinstance(point, Point))
late = executor.submit(lambda: 1)
late.add_done_callback(lambda future: print("late", future.result()))
"""

    done = run_script(tmp_path, script)

    assert done.returncode == 0, done.stderr
    folder, *lines = done.stdout.splitlines()
    assert lines == ["15", "8 True", "late 1"]
    assert done.stderr == ""
    assert not Path(folder).exists()


def wait_until_gone(folder: Path, pattern: str) -> None:
    """Wait until nothing in a folder matches."""
    end_s = time.monotonic() + 30
    while list(folder.glob(pattern)):
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_program_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Nobody is left to stop services and workers and to remove the files: they see to it themselves."""
    script = f"""
import os, signal, time
from quakegrid import LocalCluster
from quakegrid.machine import local_services
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also below `nohup`
cluster = LocalCluster(cores=1)
executor = cluster.executor()
pids = [record.pid for record in local_services.running(cluster.settings).values()]
pids.append(executor.submit(os.getpid).result())
running = executor.submit(time.sleep, 1000)
while not running.running(): time.sleep(0.01)
print(*pids, flush=True)
os.kill(os.getpid(), {int(number)})
"""

    done = run_script(tmp_path, script, TMPDIR=str(tmp_path))

    assert done.returncode == -number
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    assert all(wait_for_end(pid) for pid in pids)
    wait_until_gone(tmp_path, "quakegrid-*")


IN_A_BLOCK = """
with LocalCluster(cores=1) as cluster, cluster.executor() as executor:
    interrupt_in(executor).result()
"""
IN_A_COROUTINE = """
async def main():
    with LocalCluster(cores=1) as cluster, cluster.executor() as executor:
        await asyncio.wrap_future(interrupt_in(executor))
asyncio.run(main())
"""
IN_THE_BLOCK_OF_A_CLUSTER = """
with LocalCluster(cores=1) as cluster:
    interrupt_in(cluster.executor()).result()
"""
WITHOUT_A_BLOCK = """
cluster = LocalCluster(cores=1)
interrupt_in(cluster.executor()).result()
"""


@pytest.mark.parametrize(
    "body",
    [IN_A_BLOCK, IN_THE_BLOCK_OF_A_CLUSTER, IN_A_COROUTINE, WITHOUT_A_BLOCK],
    ids=["block", "block of a cluster", "coroutine", "no block"],
)
def test_interrupt_ends_a_program_and_what_it_runs(body: str, tmp_path: Path) -> None:
    """Ctrl-C: nobody waits for calls whose results nobody takes."""
    script = f"""
import asyncio, os, signal, sys, threading, time
from quakegrid import LocalCluster

def interrupt_in(executor):
    print(executor.submit(os.getpid).result(), flush=True)
    running = executor.submit(time.sleep, 1000)
    executor.submit(time.sleep, 1000)
    threading.Timer(0.0, interrupt_when, [running]).start()
    return running

def interrupt_when(running):
    while not running.running(): time.sleep(0.01)
    interrupt()
    while not has_heard(): interrupt()

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def has_heard():
    # CPython looks for signals before it waits for a result, not in between.
    end_s = time.monotonic() + 5.0
    while is_waiting() and time.monotonic() < end_s: time.sleep(0.01)
    return not is_waiting()

def is_waiting():
    frame, names = sys._current_frames()[threading.main_thread().ident], []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return "result" in names
{body}"""

    done = run_script(tmp_path, script, TMPDIR=str(tmp_path))

    assert done.returncode == -signal.SIGINT
    assert done.stderr.strip().endswith("KeyboardInterrupt")
    assert wait_for_end(int(done.stdout))
    wait_until_gone(tmp_path, "quakegrid-*")


def test_program_killed_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """Services that come up without their program go again."""
    script = "from quakegrid import LocalCluster\nLocalCluster(cores=1)\ninput()\n"
    environ = testing.isolated_environ(tmp_path) | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environ, stdin=subprocess.PIPE) as program:
        while not list(tmp_path.glob("quakegrid-*/openquake.cfg")):
            assert program.poll() is None
            time.sleep(0.001)
        program.kill()

    wait_until_gone(tmp_path, "quakegrid-*")


def test_fork_of_the_program_ends_without_the_cluster(tmp_path: Path) -> None:
    """A child that leaves through `sys.exit` stops nothing that is its parent's."""
    script = """
import os, sys
from quakegrid import LocalCluster
with LocalCluster(cores=1) as cluster, cluster.executor() as executor:
    pid = os.fork()
    if not pid:
        sys.exit()
    os.waitpid(pid, 0)
    print(executor.submit(abs, -1).result(), cluster.core_count())
"""

    done = run_script(tmp_path, script)

    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr


def test_cluster_and_executor_leave_the_program_as_it_was(tmp_path: Path) -> None:
    """Services get what they need by argument; threads, open files and children go with the cluster."""
    script = """
import gc, time
from quakegrid import Cluster, LocalCluster
from tests.support.calls import process_state

before = process_state.snapshot()
with LocalCluster(cores=1) as cluster:
    with Cluster(cluster.settings.state_dir) as same, same.executor() as executor:
        assert executor.submit(abs, -1).result() == 1
        inside = process_state.differences(before, process_state.snapshot())
del cluster, same, executor
gc.collect()
print(sorted(line.partition(":")[0] for line in inside))
end_s = time.monotonic() + 30  # threads of gRPC end by themselves
while process_state.differences(before, process_state.snapshot()) and time.monotonic() < end_s:
    time.sleep(0.01)
print(process_state.differences(before, process_state.snapshot()))
"""

    done = run_script(tmp_path, script, PYTHONPATH=str(ROOT))

    assert done.returncode == 0, done.stderr
    inside, after = map(ast.literal_eval, done.stdout.splitlines())
    assert inside == ["children", "kernel", "open files", "threads"]
    assert after == []


def test_settings_of_the_user_are_not_read(tmp_path: Path) -> None:
    """Ports, keys and hosts of another cluster stay its own."""
    config_path = tmp_path / "user.cfg"
    config_path.write_text("[dbserver]\nhost = 192.0.2.1\nauthkey = of-another-cluster\nlisten = 192.0.2.1\n")
    script = "from quakegrid import LocalCluster\nwith LocalCluster(1) as c: print(c.core_count())\n"

    done = run_script(tmp_path, script, OQ_CONFIG_FILE=str(config_path))

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.fixture(scope="module")
def local() -> Iterator[LocalCluster]:
    """A cluster with two workers."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


def test_cluster_finds_the_one_that_runs(local: LocalCluster) -> None:
    """By its state directory, as the command line does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OQ_CONFIG_FILE", str(local.settings.state_dir / config.CONFIG_NAME))
        with Cluster(local.settings.state_dir) as cluster, cluster.executor() as executor:
            assert executor.submit(sdk_calls.square, 5).result() == 25


def test_without_a_cluster_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no key, or nobody answers."""
    for key, value in testing.isolated_environ(tmp_path).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("OQ_CONFIG_FILE", raising=False)
    with pytest.raises(errors.SettingsError, match="quakegrid up"):
        Cluster(tmp_path / "nothing")
    testing.write_cluster_config(tmp_path / "down")

    with pytest.raises(errors.PeerUnreachableError, match="broker"):
        Cluster(tmp_path / "down").executor()


def test_node_without_the_engine_refuses_drivers_in_words() -> None:
    """`preload = none`: workers start, calculations do not, and the status says so."""
    with LocalCluster(cores=1) as cluster:
        with contextlib.closing(agents.AgentClient(cluster.settings)) as agent:
            state = agent.status().template_state

        with pytest.raises(errors.EngineMissingError, match="preload = none"):
            drivers.run_driver(cluster.settings, ["info"], mode="oq")

    assert state.kind is TemplateKind.WARM
    assert state.reason.startswith("without the engine: ")
    assert local_services.running(cluster.settings) == {}


def test_closing_twice_is_once() -> None:
    """And a cluster wants at least a core."""
    cluster = LocalCluster(cores=1)
    cluster.close()
    cluster.close()

    with pytest.raises(ValueError, match="cores"):
        LocalCluster(cores=0)


@pytest.mark.parametrize("module", [cluster_module, executor_module], ids=lambda module: module.__name__)
def test_docstring_examples_run(local: LocalCluster, module: ModuleType) -> None:
    """What the documentation of the interface shows is true; there, `cluster` has two workers."""
    with local.executor() as executor:
        found = doctest.testmod(module, extraglobs={"cluster": local, "executor": executor})

    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("number", range(len(re.findall(r"```python\n", EXAMPLES.read_text()))))
def test_documented_example_runs(number: int, tmp_path: Path) -> None:
    """Every Python block of the page is a program that prints what its comments say."""
    block = re.findall(r"```python\n(.*?)```", EXAMPLES.read_text(), re.DOTALL)[number]

    done = run_script(tmp_path, block)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"# prints (.*)", block)


def test_lanes_that_are_killed_cost_no_call() -> None:
    """Every call is done, and counted once, though its lane dies again and again."""
    count = 3000
    with LocalCluster(cores=2) as cluster, cluster.executor() as executor:
        futures = [executor.submit(sdk_calls.take_a_moment, number) for number in range(count)]
        for number in (count // 10, count // 2):
            futures[number].result()
            for pid in lane_pids(cluster):
                os.kill(pid, signal.SIGKILL)

        assert sum(future.result() for future in futures) == sum(range(count))


def lane_pids(cluster: LocalCluster) -> list[int]:
    """Processes of the cluster's lanes."""
    with BrokerClient(cluster.settings) as broker:
        return [lane.pid for lane in broker.status().lanes if lane.pid]


def test_totals_count_every_task_of_a_session_that_has_ended() -> None:
    """Also those of its last moment, and what travelled."""
    with LocalCluster(cores=2) as cluster:
        with cluster.executor(weight=2.0) as executor:
            for future in [executor.submit_weighted(1.0, bytes, 1000) for _ in range(50)]:
                future.result()
        with BrokerClient(cluster.settings) as broker:
            found = (status.totals for status in broker.watch_status())
            totals = next(totals for totals in found if totals.done_count == 50)

    assert (totals.session_count, totals.failed_count) == (1, 0)
    assert totals.result_bytes > 50_000
    assert totals.argument_bytes > 0


def test_weight_of_an_executor_is_checked(local: LocalCluster) -> None:
    """The broker says what it may be."""
    with pytest.raises(errors.UsageError, match=r"0\.01 to 100"):
        local.executor(weight=0.001)
