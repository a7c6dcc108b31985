"""The ends of people's processes: an agent of another account ends them, and removes what they leave."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Sequence

import pytest

from tests.people.accounts import ANNA, BEN
from tests.people.cluster import FOR_PEOPLE, PeopleCluster, configuration
from tests.people.machine import CAPABILITIES, Machine, children, refusal
from tests.people.workers import PersonWorker, WorkerOrders
from tests.support.nodes import wait_until

WAIT_S = 60.0
# Does not end when it is asked to, has a temporary folder, and leaves a process in a session of its own.
STUBBORN = """
import signal, subprocess, sys
from pathlib import Path
from quakegrid.machine import temporary_folders
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = temporary_folders.make(Path({state_dir!r}))
(folder / "large").write_text("x")
code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
left = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
left.stdout.readline()
answer |= {{"folder": str(folder), "pid": os.getpid(), "left": left.pid}}
"""


class Node:
    """An agent alone, and workers on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cluster = PeopleCluster(machine, configuration(FOR_PEOPLE))
        self.start()

    def start(self) -> None:
        """Start the agent."""
        self.agent = self.cluster.start("agent", CAPABILITIES)
        self.pid = self.agent.pid
        self.workers = WorkerOrders(self.cluster)

    def stubborn(self) -> tuple[PersonWorker, list[int]]:
        """A worker that does not end by itself, and descriptors that pin it and what it has started."""
        worker = self.workers.start(ANNA, STUBBORN.format(state_dir=str(self.cluster.state_dir)))
        (template,) = children(self.pid)
        (outer,) = children(template)
        return worker, [os.pidfd_open(pid) for pid in (outer, *children(outer))]

    def left_in_memory(self) -> list[str]:
        """Folders of people in shared memory."""
        return [path.name for path in self.machine.path("/dev/shm").glob(f"quakegrid-{ANNA.uid}-*")]

    def close(self) -> None:
        """End everything."""
        self.workers.close()
        self.cluster.close()


@pytest.fixture
def node() -> Iterator[Node]:
    """A node of its own, since its agent is killed."""
    if why := refusal():
        pytest.skip(why)
    with Machine() as machine:
        node = Node(machine)
        try:
            yield node
        finally:
            node.close()


def wait_for_ends(pinned: list[int]) -> None:
    """Wait until all these processes have ended."""
    assert len(pinned) == 2
    for descriptor in pinned:
        assert ended([descriptor], WAIT_S), "a process goes on"
        os.close(descriptor)


def ended(pinned: Sequence[int], timeout_s: float) -> bool:
    """Whether one of these processes ends in time."""
    poller = select.poll()
    for descriptor in pinned:
        poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    pinned = os.pidfd_open(pid)
    signal.pidfd_send_signal(pinned, signal.SIGKILL)
    assert ended([pinned], WAIT_S)
    os.close(pinned)


@pytest.mark.parametrize("is_forced", [False, True], ids=["asked", "forced"])
def test_worker_that_does_not_end_is_killed_with_all_that_it_started(node: Node, is_forced: bool) -> None:
    """The agent's account may not signal a person's processes by itself."""
    worker, pinned = node.stubborn()
    folder = node.machine.path(worker.answer["folder"])
    session = node.machine.path("/dev/shm") / node.left_in_memory()[0] / str(worker.session_id)
    assert folder.exists()
    assert session.exists()

    node.workers.stop(worker, is_forced=is_forced)

    wait_for_ends(pinned)
    wait_until(lambda: not folder.exists())
    wait_until(lambda: not session.exists())


def test_nothing_is_left_when_the_agent_stops(node: Node) -> None:
    """Processes, temporary files and shared memory."""
    worker, pinned = node.stubborn()

    node.cluster.stop("agent")

    wait_for_ends(pinned)
    assert not node.machine.path(worker.answer["folder"]).exists()
    assert node.left_in_memory() == []


def test_worker_dies_with_a_killed_template(node: Node) -> None:
    """The kernel forgets that wish of a process when its user changes, so it has to be told again."""
    _worker, pinned = node.stubborn()
    (template,) = children(node.pid)

    kill(template)

    wait_for_ends(pinned)
    wait_until(lambda: node.workers.status().template_state.startswith("warm"))


def test_next_agent_ends_and_removes_what_a_killed_one_left(node: Node) -> None:
    """It finds people's processes by their mark, which only their own users can read."""
    worker, pinned = node.stubborn()
    (template,) = children(node.pid)
    os.kill(template, signal.SIGSTOP)  # so that it does not end its children when the agent is gone
    kill(node.pid)
    kill(template)
    assert not ended(pinned[1:], 0.0), "this test needs a process that outlives the template"
    node.workers.close()
    node.agent.finish()

    node.start()

    wait_for_ends(pinned)
    wait_until(lambda: not node.machine.path(worker.answer["folder"]).exists())


def test_removal_follows_no_link_of_a_person(node: Node) -> None:
    """The agent removes with the person's rights, which end at what others have."""
    machine = node.machine
    victim = machine.write(BEN.name, BEN.home / "results" / "precious", "of Ben's")
    ours = node.cluster.state_dir / "openquake.cfg"
    state_dir = str(node.cluster.state_dir)
    code = f"""
import shutil
from pathlib import Path
from quakegrid.blobs import shared_memory
from quakegrid.machine import temporary_folders
folder = temporary_folders.make(Path({state_dir!r}))
(folder / "one").symlink_to({str(victim.parent)!r})
(folder / "two").symlink_to({state_dir!r})
root = shared_memory.folder(Path({state_dir!r}))
link = next((root / "tmp").iterdir())
link.unlink()
link.symlink_to({str(victim.parent)!r})
session = next(path for path in root.iterdir() if path.name.isdigit())
session.rmdir()
session.symlink_to({state_dir!r})
os.chdir(folder)
for _ in range(2000):  # deeper than a removal can go
    os.mkdir("deep") or os.chdir("deep")
answer["folder"] = str(folder)
"""
    for _ in range(2):  # when the second one ends, what the first one left was removed, or was not
        worker = node.workers.start(ANNA, code)
        node.workers.stop(worker)
    node.cluster.stop("agent")

    assert machine.path(victim).read_text(encoding="utf-8") == "of Ben's"
    assert machine.path(ours).exists()


def test_folder_in_memory_that_another_user_has_taken_is_not_used(node: Node) -> None:
    """Whoever makes it first gets nothing of it; the worker runs without shared memory."""
    name = f"/dev/shm/quakegrid-{ANNA.uid}-"
    with node.workers.worker(BEN):
        (taken,) = [path.name for path in node.machine.path("/dev/shm").glob(f"quakegrid-{BEN.uid}-*")]
    name = f"/dev/shm/{taken.replace(str(BEN.uid), str(ANNA.uid), 1)}"
    assert node.machine.run(BEN.name, "mkdir", "--mode=0777", name).returncode == 0

    answer = node.workers.run(ANNA, "answer['uid'] = os.getuid()")

    assert answer["uid"] == ANNA.uid
    assert list(node.machine.path(name).iterdir()) == []
    assert "no_folder_of_account" in node.cluster.log("agent")
