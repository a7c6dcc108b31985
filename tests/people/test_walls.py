"""What the processes of two people, and of services, can do to each other: nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.people.accounts import ANNA, BEN, SERVICE, Account
from tests.people.cluster import PeopleCluster
from tests.people.machine import Machine, children
from tests.people.workers import PersonWorker, WorkerOrders

# Tries everything on the processes that are its arguments, or, after "look", all but to end them; prints what
# worked.
ATTACK = r"""
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
done = []

def attempt(what, call):
    try:
        call()
    except (OSError, ValueError):
        return
    done.append(what)

def attach(pid):
    if libc.ptrace(16, pid, 0, 0) != 0:  # PTRACE_ATTACH
        raise OSError
    libc.ptrace(17, pid, 0, 0)

def read_memory(pid):
    data = ctypes.create_string_buffer(8)
    class Piece(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
    mine, theirs = Piece(ctypes.addressof(data), 8), Piece(0x400000, 8)
    if libc.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno())

for pid in map(int, filter(str.isdigit, sys.argv[1:])):
    attempt(f"mem of {pid}", lambda: open(f"/proc/{pid}/mem", "rb"))
    for name in ("environ", "maps", "auxv", "stack", "syscall", "io"):
        attempt(f"{name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    attempt(f"write memory of {pid}", lambda: open(f"/proc/{pid}/mem", "wb"))
    files = f"/proc/{pid}/fd"
    attempt(f"descriptors of {pid}", lambda: os.readlink(f"{files}/{os.listdir(files)[0]}"))
    for name in ("cwd", "exe", "root"):
        attempt(f"{name} of {pid}", lambda: os.readlink(f"/proc/{pid}/{name}"))
    attempt(f"ptrace of {pid}", lambda: attach(pid))
    attempt(f"process_vm_readv of {pid}", lambda: read_memory(pid))
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL) if sys.argv[1] != "look" else ():
        attempt(f"signal {number} to {pid}", lambda: os.kill(pid, number))
        attempt(f"signal {number} to group {pid}", lambda: os.killpg(pid, number))
    attempt(f"pidfd_getfd of {pid}", lambda: os.close(_get_fd(pid)))
    attempt(f"priority of {pid}", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt(f"score of {pid}", lambda: open(f"/proc/{pid}/oom_score_adj", "w").write("1000"))
    attempt(f"cores of {pid}", lambda: os.sched_setaffinity(pid, {0}))
print(json.dumps(done))
"""
_GET_FD = """
def _get_fd(pid):
    fd = libc.syscall(438, os.pidfd_open(pid), 1, 0)
    if fd < 0:
        raise OSError
    return fd
"""
ATTACK = ATTACK.replace("for pid in map", _GET_FD + "\nfor pid in map", 1)


@pytest.fixture
def people(workers: WorkerOrders) -> PeopleCluster:
    """The cluster of the workers."""
    return workers.cluster


@pytest.fixture
def machine(workers: WorkerOrders) -> Machine:
    """The machine of the workers."""
    return workers.cluster.machine


@pytest.fixture
def anna(workers: WorkerOrders) -> Iterator[PersonWorker]:
    """A worker of Anna's, with a secret in its environment and in a temporary folder."""
    code = f"""
from quakegrid.machine import temporary_folders
from pathlib import Path
os.environ["SECRET"] = "for Anna"
folder = temporary_folders.make(Path({str(workers.cluster.state_dir)!r}))
(folder / "secret").write_text("for Anna")
answer |= {{"pid": os.getpid(), "folder": str(folder)}}
"""
    with workers.worker(ANNA, code) as worker:
        yield worker


def attack(machine: Machine, who: str, *pids: int) -> list[str]:
    """What somebody could do to processes."""
    found: list[str] = json.loads(machine.python(who, ATTACK, *pids))
    return found


def attack_in_job(workers: WorkerOrders, who: Account, *pids: int) -> list[str]:
    """What code in a job of somebody could do to processes."""
    command = ["-c", ATTACK, *map(str, pids)]
    code = f"""
import subprocess, sys
answer["done"] = subprocess.check_output([sys.executable, *{command!r}], text=True)
"""
    found: list[str] = json.loads(workers.run(who, code)["done"])
    return found


def inner_pids(people: PeopleCluster, *pids: int) -> list[int]:
    """The numbers on the machine of processes of which a test knows those outside."""
    lines = [Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines() for pid in pids]
    return [int(line.split()[-1]) for found in lines for line in found if line.startswith("NSpid:")]


def test_attack_works_on_own_processes(machine: Machine, anna: PersonWorker) -> None:
    """Else the other tests would prove nothing: everything but setting its own score works on one's own."""
    done = attack(machine, ANNA.name, anna.answer["pid"])

    for what in ("mem", "environ", "descriptors", "signal 15", "cores", "exe"):
        assert any(each.startswith(what) for each in done), what


def test_another_person_can_do_nothing_to_a_worker(machine: Machine, anna: PersonWorker) -> None:
    """Neither look into it nor signal it, by whatever the kernel offers."""
    assert attack(machine, BEN.name, anna.answer["pid"]) == []


def test_worker_of_another_person_cannot_either(
    workers: WorkerOrders, machine: Machine, anna: PersonWorker
) -> None:
    """Code in a job has no more rights than its person at a terminal."""
    assert attack_in_job(workers, BEN, anna.answer["pid"]) == []


def test_people_can_do_nothing_to_services(
    people: PeopleCluster, workers: WorkerOrders, machine: Machine
) -> None:
    """Dbserver, agent and template: the memory of services has the key."""
    agent = people.services["agent"].pid
    services = [*(each.pid for each in people.services.values()), *children(agent)]
    pids = inner_pids(people, *services)
    assert len(pids) == 3

    assert attack(machine, ANNA.name, *pids) == []
    assert attack_in_job(workers, ANNA, *pids) == []


def test_service_of_the_same_account_cannot_look_into_the_agent(
    people: PeopleCluster, machine: Machine
) -> None:
    """The agent may change users: who could steer it would be everybody."""
    (pid,) = inner_pids(people, people.services["agent"].pid)

    done = json.loads(machine.python(SERVICE.name, ATTACK, "look", pid))

    looks = ("mem", "environ", "ptrace", "process_vm", "pidfd", "write", "descriptors")
    assert not [each for each in done if each.startswith(looks)]


def test_temporary_files_are_closed_to_others(machine: Machine, anna: PersonWorker) -> None:
    """The folder is the person's, 0700."""
    folder = anna.answer["folder"]
    facts = machine.path(folder).stat()

    assert (facts.st_uid, facts.st_mode & 0o7777) == (ANNA.uid, 0o700)
    assert machine.run(BEN.name, "cat", f"{folder}/secret").returncode != 0
    assert machine.run(ANNA.name, "cat", f"{folder}/secret").stdout == "for Anna"


def test_blobs_are_closed_to_others(workers: WorkerOrders, machine: Machine) -> None:
    """Shared memory of a session is for the workers of its person; the folders above, too."""
    with workers.worker(ANNA) as worker:
        folders = list(machine.path("/dev/shm").glob(f"quakegrid-{ANNA.uid}-*"))
        (sessions,) = [folder / str(worker.session_id) for folder in folders]
        facts = [folder.stat() for folder in (*folders, sessions)]
        name = f"/dev/shm/{folders[0].name}/{worker.session_id}"
        assert machine.run(ANNA.name, "touch", f"{name}/blob").returncode == 0

        assert [(each.st_uid, each.st_mode & 0o7777) for each in facts] == [(ANNA.uid, 0o700)] * 2
        assert machine.run(BEN.name, "ls", name).returncode != 0
        assert machine.run(BEN.name, "cat", f"{name}/blob").returncode != 0


def test_set_user_id_programs_give_nothing(workers: WorkerOrders, machine: Machine) -> None:
    """A program of root's that anybody may run as root does not run as root in a job."""
    program = machine.path("/var/tmp/who")
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    by_hand = machine.run(ANNA.name, "/var/tmp/who", "--user").stdout.strip()

    code = """
import subprocess
answer["uid"] = subprocess.check_output(["/var/tmp/who", "--user"], text=True).strip()
"""
    in_job = workers.run(ANNA, code)["uid"]

    assert in_job == str(ANNA.uid)
    assert by_hand in ("0", str(ANNA.uid))  # the latter where the disk has `nosuid`


def test_key_can_be_read_by_nobody(people: PeopleCluster, workers: WorkerOrders) -> None:
    """Neither by a person nor by a job, under whatever name the file can be reached."""
    path = people.state_dir / "openquake.cfg"
    code = f"""
answer["read"] = []
for path in ({str(path)!r}, "/proc/1/root" + {str(path)!r}, "/proc/self/root" + {str(path)!r}):
    try:
        answer["read"].append(open(path).read())
    except OSError:
        pass
"""
    for who in (ANNA, BEN):
        assert people.machine.run(who.name, "cat", path).returncode != 0
        assert workers.run(who, code)["read"] == []


def test_person_cannot_write_into_the_state_directory(people: PeopleCluster, machine: Machine) -> None:
    """Everybody may pass it, nobody may make or list anything there."""
    for folder in (people.state_dir, people.state_dir / "run"):
        assert machine.run(ANNA.name, "touch", folder / "mine").returncode != 0
        assert machine.run(ANNA.name, "mv", folder / "agent.sock", folder / "x").returncode != 0
    assert machine.path(people.state_dir / "run" / "agent.sock").exists()
