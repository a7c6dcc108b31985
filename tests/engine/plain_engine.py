"""Runs calculations on the plain engine, all in one process, each as `oq engine --run` does it.

Usage: `plain_engine.py CASES.json RESULTS.json`. CASES.json is a list of
`{"name": ..., "jobs": [{"job_ini": ..., "export_dir": ...}], "params": {...}}`; every job but the first
starts from the calculation before it (`--hc`). RESULTS.json maps each name to `{"seconds", "error"}`.
The environment (HOME, OQ_DATADIR, OQ_DISTRIBUTE) is the caller's.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def run_jobs(jobs: list[dict[str, str]], params: dict[str, str]) -> None:
    """Run job files in order, each on top of the one before, and export all outputs as CSV."""
    from openquake.commands import engine
    from openquake.commonlib import logs

    parent_id = None
    for job in jobs:
        values = {"export_dir": job["export_dir"], **params}
        param = ",".join(f"{key}={value}" for key, value in values.items())
        engine.main(
            run=[job["job_ini"]],
            hazard_calculation_id=parent_id,
            exports="csv",
            param=param,
            log_level="warn",
        )
        parent_id = logs.dbcmd("get_job", -1).id


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """Run one case; the result says how long it took and what went wrong, if anything."""
    start_s = time.monotonic()
    error = None
    try:
        run_jobs(case["jobs"], case["params"])
    except (Exception, SystemExit):  # noqa: BLE001 (one case must not take others along)
        error = traceback.format_exc()
    return {"seconds": round(time.monotonic() - start_s, 2), "error": error}


def main() -> None:
    """Run every case of the file and write the results."""
    cases_path, results_path = map(Path, sys.argv[1:])
    cases = json.loads(cases_path.read_text(encoding="utf-8"))
    results = {case["name"]: run_case(case) for case in cases}
    results_path.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
