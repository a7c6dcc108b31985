"""What an agent reads of its limits: settings, the dial, /proc, cgroups; and how it shows them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients.agent import AgentStatus, WorkerStatus
from quakegrid.services.agent.agentctl import status_view
from quakegrid.services.agent.linux import cgroups as worker_cgroups
from quakegrid.services.agent.node.limits import memory_samples
from quakegrid.services.agent.node.limits.limits import NodeLimits
from quakegrid.services.agent.node.limits.memory_samples import PAGE_BYTES, MemoryWatch
from quakegrid.services.agent.rules.memory import NodeMemory, WorkerMemory
from quakegrid.services.agent.rules.roster import Member, Roster
from quakegrid.settings import config
from quakegrid.settings.agent_limits import AgentLimits

Load = Callable[[str], config.Settings]
GIB = 1 << 30


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Reads settings from a text."""

    def read(text: str) -> config.Settings:
        path = tmp_path / "mine.cfg"
        path.write_text(text)
        return config.load_settings(tmp_path / "state", {"OQ_CONFIG_FILE": str(path)})

    return read


def write(folder: Path, **files: str) -> Path:
    """Write files, whose names have a dot for each `_`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


# --- settings


def test_limits_have_upstreams_defaults(load: Load) -> None:
    """And workers are as nice as everybody."""
    assert load("").agent_limits == AgentLimits(90, 99, 0, 1)


def test_limits_are_read(load: Load) -> None:
    """From upstream's section and ours."""
    text = "[memory]\nsoft_mem_limit = 70\nhard_mem_limit = 80\n[agent]\nnice = 10\ncores_per_worker = 4\n"

    assert load(text).agent_limits == AgentLimits(70, 80, 10, 4)


@pytest.mark.parametrize(
    "line",
    [
        "[memory]\nsoft_mem_limit = 0",
        "[memory]\nhard_mem_limit = 101",
        "[agent]\nnice = -1",
        "[agent]\nnice = x",
    ],
)
def test_limits_that_mean_nothing_are_refused(load: Load, line: str) -> None:
    """With what is allowed."""
    with pytest.raises(errors.SettingsError, match="is not allowed; give"):
        load(line)


# --- /proc and cgroups


def fake_process(
    proc: Path, pid: int, pages: tuple[int, int], children: str = "", stack_start: int = 7000
) -> None:
    """A process of so many resident pages, so many of them shared."""
    task = proc / str(pid) / "task" / str(pid)
    task.mkdir(parents=True)
    (task / "children").write_text(children)
    (proc / str(pid) / "statm").write_text(f"9999 {pages[0]} {pages[1]} 1 0 1 0\n")
    times = f"S 1 2 3 0 -1 4 5 6 7 8 250 50 0 0 20 0 1 0 99 0 0 0 1 2 {stack_start} 0"
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b) {times}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A node with 8 GiB, 6 of them used."""
    meminfo = f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {2 << 20} kB\n"
    return write(tmp_path / "proc", meminfo=meminfo)


def test_worker_counts_with_what_it_started(proc: Path) -> None:
    """Less what each of them shares with files and the template; who is gone counts nothing."""
    fake_process(proc, 10, (100, 20))
    fake_process(proc, 11, (150, 30), "12 99")
    fake_process(proc, 12, (200, 40))
    workers = [Member("a", 7, (0,), pid=11), Member("gone", 7, (1,), pid=98), Member("unborn", 7, (2,))]

    memory = MemoryWatch(proc, ()).read(workers, template_pid=10)

    family = WorkerMemory("a", 7, 350 * PAGE_BYTES, (120 - 80 + 160 - 80) * PAGE_BYTES)
    assert memory == NodeMemory(6 * GIB, 8 * GIB, (family, WorkerMemory("gone", 7, 0, 0)))
    assert memory.percent == 75
    assert MemoryWatch(proc, ()).cpu_s(11) == 300 / os.sysconf("SC_CLK_TCK")
    assert MemoryWatch(proc, ()).cpu_s(98) == 0


def test_program_that_a_worker_started_shares_nothing_with_the_template(proc: Path) -> None:
    """All that it has is the worker's own."""
    fake_process(proc, 10, (100, 20))
    fake_process(proc, 11, (150, 30), "12")
    fake_process(proc, 12, (90, 10), stack_start=8000)

    (worker,) = MemoryWatch(proc, ()).read([Member("a", 7, (0,), pid=11)], template_pid=10).workers

    assert worker.own_bytes == (120 - 80 + 90 - 10) * PAGE_BYTES


def test_sample_that_cannot_be_read_leaves_the_last_one(load: Load, proc: Path) -> None:
    """As without a descriptor left: the watch of the agent goes on."""
    fake_process(proc, 10, (100, 20))
    limits = NodeLimits(load(""), "a-node", Roster([0]), lambda: 10)
    limits._watch = MemoryWatch(proc, ())
    before, after = nodes_pb2.AgentStatus(), nodes_pb2.AgentStatus()
    limits.describe(before, with_samples=True)
    (proc / "meminfo").unlink()

    limits.describe(after, with_samples=True)

    assert not limits._sample()
    assert (after.memory_used_bytes, after.memory_total_bytes) == (6 * GIB, 8 * GIB)
    assert before.memory_used_bytes == after.memory_used_bytes


def test_fuller_cgroup_is_the_node(proc: Path, tmp_path: Path) -> None:
    """Its cache aside; cgroups without a bound do not count."""
    inner = write(
        tmp_path / "mount/outer/inner",
        memory_max=str(4 * GIB),
        memory_current=str(4 * GIB),
        memory_stat=f"anon 1\ninactive_file {GIB // 2}\n",
        cgroup_controllers="memory",
    )
    write(tmp_path / "mount/outer", memory_max="max", memory_current="1", memory_stat="")
    write(proc / "self", cgroup="9:cpu:/x\n0::/outer/inner\n")

    cgroups = memory_samples.bounding_cgroups(proc, tmp_path / "mount")

    assert cgroups == (inner, inner.parent)
    assert MemoryWatch(proc, cgroups).read_node() == (7 * GIB // 2, 4 * GIB)


def test_without_cgroups_of_version_2_nothing_bounds(proc: Path, tmp_path: Path) -> None:
    """As on machines with version 1."""
    write(proc / "self", cgroup="4:memory:/x\n0::/\n")

    assert memory_samples.bounding_cgroups(proc, tmp_path) == ()
    assert memory_samples.bounding_cgroups(tmp_path, tmp_path) == ()


def delegated(folder: Path, members: str) -> Path:
    """A folder like a cgroup with these processes."""
    return write(
        folder,
        cgroup_controllers="cpu memory",
        cgroup_procs=members,
        cgroup_subtree_control="",
        memory_max="max",
    )


def test_delegated_cgroup_has_one_for_each_worker(tmp_path: Path) -> None:
    """With its limit; and tells when the kernel killed at it."""
    own = delegated(tmp_path / "own", f"{os.getpid()}\n")
    cgroups = worker_cgroups.prepare(GIB, own)

    folder = Path(cgroups.open("w-1"))
    worker_cgroups.enter(str(folder))
    limit, members = (folder / "memory.max").read_text(), (folder / "cgroup.procs").read_text()
    write(folder, memory_events="oom 1\noom_kill 1\n")
    reason = cgroups.close("w-1")
    write(folder, memory_events="oom 0\noom_kill 0\n")

    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    assert (own / "agent/cgroup.procs").read_text() == str(os.getpid())
    assert (limit, members) == (str(GIB), "0")
    assert reason == "stopped by the kernel at [agent] worker_memory (1.0 GiB)"
    assert cgroups.close("w-1") == cgroups.close("w-2") == ""


def test_busy_cgroup_of_an_earlier_worker_does_not_turn_limits_off(tmp_path: Path) -> None:
    """What is in it is killed, and the others are used."""
    own = delegated(tmp_path / "own", f"{os.getpid()}\n")
    left = write(own / "worker-old", cgroup_kill="", cgroup_procs="1\n")  # not empty, as if busy

    cgroups = worker_cgroups.prepare(GIB, own)

    assert cgroups.parent == own
    assert (left / "cgroup.kill").read_text() == "1"
    assert cgroups.open("w-1")


def test_cgroup_with_other_processes_is_left_alone(tmp_path: Path) -> None:
    """As that of somebody's login; or when there is no limit to set."""
    shared = delegated(tmp_path / "shared", f"1\n{os.getpid()}\n")
    unbounded = delegated(tmp_path / "own", f"{os.getpid()}\n")

    found = [worker_cgroups.prepare(GIB, shared), worker_cgroups.prepare(0, unbounded)]

    assert [each.parent for each in found] == [None, None]
    assert [each.open("w") + each.close("w") for each in found] == ["", ""]
    worker_cgroups.enter("")


# --- what people see


def status(count: int, **changes: object) -> AgentStatus:
    """A node of 64 cores with so many workers of two sessions."""
    workers = tuple(
        WorkerStatus(f"w-{number}", number % 2, 100 + number, number, (number,), (number + 1) * GIB, 1.5)
        for number in range(count)
    )
    fields = {
        "node": "n1",
        "core_count": 64,
        "template_state": "warm",
        "workers": workers,
        "drivers": (),
        "version": "1",
        "engine_version": "3.26.2",
        "all_core_count": 64,
        "cores_per_worker": 1,
        "is_short_of_memory": False,
        "memory_used_bytes": 32 * GIB,
        "memory_total_bytes": 64 * GIB,
        "load_average": 12.5,
        "service": "serving",
        "master": "",
        "is_watched": True,
        "is_refreshing": False,
        "fingerprint": {},
    }
    return AgentStatus(**(fields | changes))  # type: ignore[arg-type]


def test_few_workers_have_a_line_each() -> None:
    """In the order of their cores."""
    rows, columns = status_view.workers(status(2), is_long=False)

    assert [row["worker"] for row in rows] == ["w-0", "w-1"]
    assert rows[0]["resident"] == "1.0 GiB"
    assert columns["cpu_s"] == "cpu s"


def test_many_workers_have_a_line_for_each_session() -> None:
    """Unless each is asked for."""
    rows, _ = status_view.workers(status(64), is_long=False)
    long, _ = status_view.workers(status(64), is_long=True)

    assert [(row["session"], row["workers"], row["largest_worker"]) for row in rows] == [
        (0, 32, "w-62"),
        (1, 32, "w-63"),
    ]
    assert len(long) == 64


def test_summary_says_what_is_not_as_usual() -> None:
    """A dial that was turned, wide workers, and too little memory."""
    usual = status_view.summary(status(0))
    other = status_view.summary(status(0, core_count=12, cores_per_worker=4, is_short_of_memory=True))

    assert usual["cores"] == "64"
    assert usual["memory"] == "32.0 GiB of 64.0 GiB (50 %)"
    assert usual["template"] == "warm (openquake.engine 3.26.2)"
    assert other["cores"] == "12 of 64 (agentctl cores), 4 each worker"
    assert other["memory"].endswith("soft_mem_limit: one worker goes on")
