"""A real agent's templates: refresh when code changes, cold and failing preloads, health."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from quakegrid import LocalCluster, errors
from quakegrid.clients import agent as agents
from quakegrid.clients import drivers
from quakegrid.clients.agent import AgentStatus
from quakegrid.nodes import environment
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.options import Needs, SessionOptions
from quakegrid.session.session import Session
from tests.support.clusters import processes, wait_for_end

# What drivers of the engine send, as a pickle made without loading it here.
ENGINE_SETUP = b"cquakegrid.engine.tasks.engine_task\nEngineSetup\n."
AGENTCTL = Path(sys.executable).with_name("agentctl")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path of all processes that start from here."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def write_probe(folder: Path, version: str) -> None:
    """A small package that templates preload."""
    package = folder / "gridprobe"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("from gridprobe.inner import VERSION\n")
    (package / "inner.py").write_text(f"VERSION = {version!r}\n")


def seen_version() -> tuple[str, int]:
    """Runs in a worker: the version of the package that its template had loaded, and the template's pid."""
    module = sys.modules["gridprobe"]
    return module.VERSION, os.getppid()


def read_then_tell(path: str) -> tuple[str, int]:
    """Runs in a worker, as long as nobody writes to a pipe."""
    Path(path).read_bytes()
    return seen_version()


def kill_template() -> None:
    """Runs in a worker, which dies with its template."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


@contextlib.contextmanager
def statuses(cluster: LocalCluster) -> Iterator[Iterator[AgentStatus]]:
    """What the agent of a cluster tells of itself, now and at each change."""
    with contextlib.closing(agents.AgentClient(cluster.settings)) as agent:
        yield agent.watch_status()


def agentctl_warm(cluster: LocalCluster) -> subprocess.CompletedProcess[str]:
    """Run `agentctl warm` for a cluster."""
    environ = dict(os.environ) | {"OQ_CONFIG_FILE": str(cluster.settings.state_dir / "openquake.cfg")}
    return subprocess.run(
        [str(AGENTCTL), "--state-dir", str(cluster.settings.state_dir), "warm"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_new_workers_have_the_new_code_while_an_old_one_works_on(folder: Path) -> None:
    """An upgrade disturbs nothing that runs; the old template ends with its last child."""
    write_probe(folder, "old")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    with LocalCluster(cores=2, preload="gridprobe") as cluster:
        with cluster.executor(max_workers=1) as first:
            running: Future[Any] = first.submit(read_then_tell, str(pipe))
            writer = os.open(pipe, os.O_WRONLY)  # waits until the worker reads
            with statuses(cluster) as changes:
                write_probe(folder, "quite new")
                next(each for each in changes if each.is_refreshing)
                next(each for each in changes if not each.is_refreshing)
            with cluster.executor(max_workers=1) as second:
                version, new_template = second.submit(seen_version).result()
            old_alive = not running.done()
            os.close(writer)
            old_version, old_template = running.result()
        wait_for_end(old_template)
        left = processes("quakegrid.services.agent.template", cluster.settings.state_dir)
        done = agentctl_warm(cluster)

    assert (version, old_version) == ("quite new", "old")
    assert old_alive
    assert old_template != new_template
    assert new_template in left
    assert (done.returncode, done.stdout.partition(",")[0]) == (0, "template warm"), done.stderr


def other_numpy(folder: Path) -> None:
    """Let numpy seem to be another version, for who looks from now on."""
    info = folder / "numpy-1.0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.9\n")


def worker_parents(cluster: LocalCluster, session_id: int) -> dict[int, int]:
    """The workers of a session that live, and the templates that they came from."""
    with statuses(cluster) as changes:
        workers = [each for each in next(changes).workers if each.session_id == session_id and each.pid]
    parents = {}
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has died since
            parents[worker.pid] = psutil.Process(worker.pid).ppid()
    return parents


def receive(session: Session) -> None:
    """Wait for an outcome, or for the reason why there is none."""
    session.wait_for_turn(lambda _ahead: None)
    session.receive()


def wait_for(is_so: Callable[[], Any]) -> Any:
    """Ask until there is something; the test's own timeout bounds it."""
    while not (found := is_so()):
        time.sleep(0.01)
    return found


def test_session_gets_workers_with_its_code_while_its_node_is_upgraded(folder: Path) -> None:
    """From the template that it began with, while that has children; later sessions get the new code."""
    write_probe(folder, "old")
    numpy = environment.version_of("numpy")
    told: list[str] = []
    needs = Needs({"numpy": numpy}, told.append)
    with LocalCluster(cores=2, preload="gridprobe") as cluster:
        session = Session(cluster.settings, SessionOptions("ann", b"", needs=needs))
        try:
            session.wait_for_turn(lambda _ahead: None)
            number = session.session_id
            before = wait_for(lambda: found if len(found := worker_parents(cluster, number)) == 2 else None)
            (old_template,) = set(before.values())
            other_numpy(folder)
            write_probe(folder, "quite new")
            with statuses(cluster) as changes:
                next(each for each in changes if each.is_refreshing)
                next(each for each in changes if not each.is_refreshing)

            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            after = wait_for(
                lambda: (
                    found
                    if len(found := worker_parents(cluster, number)) == 2 and victim not in found
                    else None
                )
            )
            assert set(after.values()) == {old_template}
            assert told == []
        finally:
            session.close()
        wait_for_end(old_template)
        late = Session(cluster.settings, SessionOptions("bob", b"", needs=needs))
        try:
            with pytest.raises(errors.QuakeGridError, match=f"numpy 1.0.9 there, {numpy} here"):
                receive(late)
        finally:
            late.close()
        with cluster.executor() as executor:
            assert executor.submit(seen_version).result()[0] == "quite new"


def test_node_whose_preload_raises_is_cold_and_works(folder: Path) -> None:
    """It says why, forks workers with what it has, and warms up when the code is mended."""
    (folder / "gridprobe.py").write_text("raise RuntimeError('half\\ninstalled')\n")
    with LocalCluster(cores=1, preload="gridprobe") as cluster:
        done = agentctl_warm(cluster)
        with cluster.executor() as executor:
            result = executor.submit(pow, 2, 10).result()
        with statuses(cluster) as changes:
            (folder / "gridprobe.py").write_text("VERSION = 'mended'\n")
            next(each for each in changes if each.template_state.kind is TemplateKind.WARM)
        with cluster.executor() as executor:
            version, _template = executor.submit(seen_version).result()

    assert result == 1024
    assert done.returncode == 1
    assert "template cold: gridprobe cannot be loaded: RuntimeError: half installed" in done.stderr
    assert version == "mended"


def test_node_whose_preload_starts_a_thread_is_cold_and_works(folder: Path) -> None:
    """What must not be forked is not preloaded at all."""
    (folder / "gridprobe.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    with LocalCluster(cores=1, preload="gridprobe") as cluster:
        with cluster.executor() as executor:
            result = executor.submit(pow, 2, 10).result()
        with statuses(cluster) as changes:
            state = next(changes).template_state

    assert result == 1024
    assert str(state) == "cold: OSError: the template has 2 threads and must not fork"


def test_node_that_cannot_load_the_engine_runs_functions_and_says_why(folder: Path) -> None:
    """Drivers are refused; what a driver elsewhere sends fails with the import error and the node's name."""
    (folder / "h5py.py").write_text("raise ImportError('no h5py for you')\n")
    with LocalCluster(cores=1, preload="openquake") as cluster:
        with statuses(cluster) as changes:
            status = next(changes)
        with cluster.executor() as executor:
            result = executor.submit(pow, 2, 10).result()
        with pytest.raises(errors.EngineMissingError, match="no h5py for you"):
            drivers.run_driver(cluster.settings, ["info"], mode="oq")
        session = Session(cluster.settings, SessionOptions("ann", ENGINE_SETUP))
        try:
            session.wait_for_turn(lambda _ahead: None)
            session.submit([b"not looked at"], LaneTask("probe"))
            outcome = session.receive()
        finally:
            session.close()

    assert str(status.template_state) == (
        "cold: openquake.engine cannot be loaded: ImportError: no h5py for you"
    )
    assert result == 1024
    assert f" on {status.node} could not be set up" in outcome.error
    assert "ImportError: no h5py for you" in outcome.error


def test_dead_template_is_reported_and_replaced() -> None:
    """A worker of it counts as lost with that reason; others get workers of the next one."""
    with LocalCluster(cores=1) as cluster, cluster.executor() as executor:
        template = executor.submit(os.getppid).result()
        killing = executor.submit(kill_template)

        with pytest.raises(errors.TaskKilledError, match=r"its template ended \(killed by SIGKILL"):
            killing.result()
        assert executor.submit(os.getppid).result() != template


@pytest.mark.full
def test_silent_template_is_replaced() -> None:
    """It does not answer pings: it is killed, and another one starts."""
    with LocalCluster(cores=1) as cluster, cluster.executor() as executor:
        template = executor.submit(os.getppid).result()
        os.kill(template, signal.SIGSTOP)
        wait_for_end(template)

        assert executor.submit(os.getppid).result() != template
