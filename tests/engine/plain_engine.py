"""Runs calculations on the plain engine: each as `oq engine --run` does it, in a fork of this loaded process.

Usage: `plain_engine.py CASES.json FOLDER [COUNT]`. CASES.json is a list of
`{"name": ..., "jobs": [{"job_ini": ..., "export_dir": ..., "parent": NUMBER or null}], "params": {...}}`. A
job with a parent starts from that earlier job of its case (`--hc`). COUNT cases run side by side, one by
default. FOLDER gets `NAME.json` when a case is over: a list with
`{"seconds", "cpu_seconds", "error", "kind", "text", "not_exported"}` for each job. `error` is a traceback, or
null; `kind` and `text` are its last words. OQ_DISTRIBUTE is the caller's; each case has a HOME of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# A job that takes longer is given up.
JOB_TIMEOUT_S = 900
NOT_EXPORTED = "Could not export "


def run_job(case: dict[str, Any], number: int, ids: list[int | None]) -> dict[str, Any]:
    """Run one job file and export all its outputs as CSV.

    Args:
        case: as in CASES.json.
        number: of the job in its case.
        ids: of the jobs before it, None for one that failed.
    """
    from openquake.commands import engine
    from openquake.commonlib import logs

    job = case["jobs"][number]
    parent_id = None if job["parent"] is None else ids[job["parent"]]
    values = {"export_dir": job["export_dir"], **case["params"]}
    end: dict[str, Any] = {"error": None, "kind": "", "text": ""}
    start_s = time.monotonic()
    try:
        if job["parent"] is not None and parent_id is None:
            raise RuntimeError("the job that it starts from has failed")  # noqa: TRY301 - told as any other
        engine.main(
            run=[job["job_ini"]],
            hazard_calculation_id=parent_id,
            exports="csv",
            param=",".join(f"{key}={value}" for key, value in values.items()),
            log_level="warn",
        )
    except BaseException as exc:  # noqa: BLE001 (one case must not take others along)
        end = {"error": traceback.format_exc(), "kind": type(exc).__name__, "text": str(exc)}
    end["seconds"] = round(time.monotonic() - start_s, 2)
    last = _last_job()
    end["id"] = last.id if last and end["error"] is None else None
    lines = logs.dbcmd("get_log", last.id) if last else []
    end["not_exported"] = [line for line in map(str, lines) if NOT_EXPORTED in line]
    return end


def _last_job() -> Any:
    from openquake.commonlib import logs

    if not logs.dbcmd("SELECT name FROM sqlite_master WHERE name='job'"):
        return None
    return logs.dbcmd("get_job", -1)


def enter(home: Path) -> None:
    """Give this process a HOME of its own, with its own database and datastores."""
    from openquake.baselib import config
    from openquake.commonlib import dbapi

    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)
    os.environ.pop("OQ_DATADIR", None)
    dbapi.db.args = (os.path.expanduser(config.dbserver.file),)  # noqa: PTH111 - as the engine does


def start(case: dict[str, Any], number: int, ends: list[dict[str, Any]], folder: Path) -> int:
    """Run one job in a fork; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(JOB_TIMEOUT_S)
        enter(folder / "homes" / case["name"])
        end = run_job(case, number, [each["id"] for each in ends])
        (folder / f"{case['name'].replace('/', '~')}.{number}").write_text(json.dumps(end), encoding="utf-8")
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def take_end(case: dict[str, Any], number: int, folder: Path, status: int) -> dict[str, Any]:
    """What a fork has left."""
    path = folder / f"{case['name'].replace('/', '~')}.{number}"
    if not path.exists():
        text = f"its process ended with {os.waitstatus_to_exitcode(status)}"
        words = {"error": text, "kind": "Died", "text": text}
        return {**words, "seconds": 0.0, "id": None, "not_exported": []}
    end: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return end


def load() -> None:
    """Import all that a calculation needs."""
    from openquake.calculators import export  # noqa: F401
    from openquake.commands import engine  # noqa: F401


def main() -> None:
    """Run every case of the file; each has its results when it is over."""
    cases_path, folder = map(Path, sys.argv[1:3])
    side_by_side = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    waiting = json.loads(cases_path.read_text(encoding="utf-8"))[::-1]
    load()
    running: dict[int, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    while waiting or running:
        while waiting and len(running) < side_by_side:
            case = waiting.pop()
            running[start(case, 0, [], folder)] = case, []
        pid, status, usage = os.wait4(-1, 0)
        case, ends = running.pop(pid)
        end = take_end(case, len(ends), folder, status)
        end["cpu_seconds"] = round(usage.ru_utime + usage.ru_stime, 2)
        ends.append(end)
        if len(ends) < len(case["jobs"]):
            running[start(case, len(ends), ends, folder)] = case, ends
        else:
            path = folder / f"{case['name'].replace('/', '~')}.json"
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(ends, indent=1), encoding="utf-8")
            partial.replace(path)
            shutil.rmtree(folder / "homes" / case["name"], ignore_errors=True)


if __name__ == "__main__":
    main()
