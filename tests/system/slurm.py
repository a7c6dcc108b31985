"""A SLURM of two nodes on this machine, with a configuration, ports, key and spool directories of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quakegrid import testing

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scancel", "squeue", "sinfo")
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NODES = ("n1", "n2")
TIMEOUT_S = 60.0
POLL_S = 0.2
CONFIG = """\
ClusterName=quakegrid-test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# Signals reach the agent and not its workers, as with proctrack/cgroup, which needs cgroups of the machine.
ProctrackType=proctrack/pgid
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=30
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs={cpus}
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs={cpus}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no SLURM here; empty if there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    if lacking:
        return f"there is no {', '.join(lacking)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "only root can run SLURM's daemons"


def wait_until(is_so: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Ask until it is so."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"never came: {what}"
        time.sleep(POLL_S)


class Slurm:
    """A controller and two nodes, as processes of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        controller, first, second = testing.free_ports(3)
        self._config = folder / "slurm.conf"
        self._config.write_text(
            CONFIG.format(
                folder=folder,
                controller=controller,
                first=first,
                second=second,
                cpus=len(os.sched_getaffinity(0)),
            )
        )
        self.environ = dict(os.environ) | {"SLURM_CONF": str(self._config), "PATH": SEARCHED}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all daemons and wait until both nodes are idle."""
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        munge = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._spawn("munged", "--foreground", "--force", f"--socket={self.folder}/munge.sock", *munge)
        wait_until((self.folder / "munge.sock").exists, "munge's socket")
        self._spawn("slurmctld", "-D", "-i")
        for node in NODES:
            self._spawn("slurmd", "-D", "-N", node)
        wait_until(lambda: self.call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", "idle nodes")

    def call(self, *argv: object, check: bool = False) -> str:
        """Run one of SLURM's commands; what it printed."""
        command = [str(each) for each in argv]
        done = subprocess.run(
            command,
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def submit(self, *argv: object, **environ: str) -> str:
        """Submit a batch job; its number."""
        self.environ |= environ
        options = ("--parsable", f"--output={self.folder}/job-%j.log")
        return self.call("sbatch", *options, *argv, check=True).strip()

    def cancel(self, job: str, *options: str) -> None:
        """Cancel a job, or signal it."""
        self.call("scancel", *options, job, check=True)

    def has_ended(self, job: str) -> bool:
        """Whether nothing of a job is left."""
        return job not in self.call("squeue", "-h", "-o", "%i").split()

    def log(self, job: str) -> str:
        """What a job printed."""
        return (self.folder / f"job-{job}.log").read_text()

    def stop(self) -> None:
        """Cancel all jobs, wait until they have ended, and end the daemons."""
        for job in self.call("squeue", "-h", "-o", "%i").split():
            self.call("scancel", job)
            wait_until(lambda job=job: self.has_ended(job), f"end of job {job}")  # type: ignore[misc]
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(TIMEOUT_S)

    def _spawn(self, program: str, *argv: str) -> None:
        path = shutil.which(program, path=SEARCHED)
        assert path is not None
        with (self.folder / f"{program}.out").open("ab") as out:
            self._daemons.append(
                subprocess.Popen([path, *argv], env=self.environ, cwd=self.folder, stdout=out, stderr=out)
            )
