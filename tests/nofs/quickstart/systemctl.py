"""Stands in for `systemctl` where no systemd runs: starts units as their files say, and again if they end.

Knows what `quakegrid install` and the manual ask of it: `daemon-reload`, `enable --now UNIT...`, `restart` of
a unit, and whether a unit is active. Of a unit it takes user, folder, environment, command, capabilities and
restarts. It cannot hide parts of the disk or limit calls; `make test-vm` tries that with the real one.
"""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

UNITS, LOGS, RUNNING = Path("/etc/systemd/system"), Path("/var/log"), Path("/run")
# What the engine would compile first, see kernels.py.
KERNELS = Path("/srv/kernels")
RESTART_S, POLL_S = 1.0, 0.01
WRONG_SETTINGS = 2


def read(unit: str) -> dict[str, str]:
    """The section [Service] of a unit; of a key that comes twice the last."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / unit).read_text(encoding="utf-8"))
    return dict(parser["Service"])


def command(service: dict[str, str]) -> list[str]:
    """What runs a service as its user, with the capabilities that it keeps."""
    names = [name.removeprefix("CAP_").lower() for name in service.get("AmbientCapabilities", "").split()]
    kept = ",".join(["-all", *(f"+{name}" for name in names)])
    become = ["setpriv", f"--reuid={service['User']}", f"--regid={service['Group']}", "--init-groups"]
    become += [f"--{kind}={kept}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    become += ["--no-new-privs"] if service.get("NoNewPrivileges") == "yes" else []
    environ = shlex.split(service.get("Environment", ""))
    environ += [f"NUMBA_CACHE_DIR={KERNELS}"] if KERNELS.is_dir() else []
    start = ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", *environ]
    return [*become, *start, f"--chdir={service['WorkingDirectory']}", *shlex.split(service["ExecStart"])]


def mark_of(unit: str) -> Path:
    """The file that has the number of the process that keeps a unit running."""
    return RUNNING / f"{unit.removesuffix('.service')}.pid"


def stop(unit: str) -> None:
    """Ask a service to end, and wait until it has."""
    keeper = mark_of(unit).read_text(encoding="ascii")
    for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text(encoding="ascii").split():
        os.kill(int(pid), signal.SIGTERM)
    while mark_of(unit).exists():
        time.sleep(POLL_S)


def keep_running(unit: str) -> None:
    """Run a service in a process of its own, again and again until it ends well or its settings are wrong."""
    mark = mark_of(unit)
    if pid := os.fork():
        mark.write_text(str(pid), encoding="ascii")
        return
    os.setsid()
    with (LOGS / f"{unit}.log").open("ab") as log:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        while (code := subprocess.run(command(read(unit)), check=False).returncode) != 0:
            if code == WRONG_SETTINGS:
                break
            time.sleep(RESTART_S)
    mark.unlink()
    os._exit(0)


def main() -> None:
    """Do what the arguments say; end with an error if they say anything else."""
    match sys.argv[1:]:
        case ["daemon-reload"]:
            pass
        case ["enable", "--now", *units]:
            for unit in units:
                keep_running(unit)
        case ["restart", unit]:
            stop(unit)
            keep_running(f"{unit.removesuffix('.service')}.service")
        case ["show", "--value", "--property=ActiveState", unit]:
            print("active" if mark_of(unit).exists() else "inactive")
        case words:
            sys.exit(f"this systemctl cannot {' '.join(words)}")


if __name__ == "__main__":
    main()
