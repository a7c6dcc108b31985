"""`make chaos`: runs of the harness by hand, as docs/faults.md says."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from quakegrid import testing
from tests.engine import cases
from tests.faults.harness.network import NamespaceError
from tests.faults.harness.plan import Scale
from tests.faults.harness.run import Order
from tests.faults.harness.services import Options
from tests.faults.harness.side_by_side import end_by_exceptions, run_all
from tests.faults.harness.work import ENGINE_CASES

# Of the time, before the first fault: what throughput is measured by.
CALM_PART = 0.1


def expected_exports(directory: Path) -> dict[str, Path]:
    """Run the plain engine on the cases; where its exports are."""
    jobs = {}
    for folder in ENGINE_CASES:
        case = next(case for case in cases.CASES if case.folder == folder)
        (jobs[folder],) = cases.prepare(case, directory / folder)
    runs = [{"name": name, "jobs": [asdict(job)], "params": cases.PARAMS} for name, job in jobs.items()]
    paths = directory / "runs.json", directory / "results.json"
    paths[0].write_text(json.dumps(runs, default=str), encoding="utf-8")
    script = Path(cases.__file__).with_name("plain_engine.py")
    environ = testing.isolated_environ(directory) | {"OQ_DISTRIBUTE": "no"}
    subprocess.run(
        [sys.executable, script, *paths],
        env=environ,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return {name: job.export_dir for name, job in jobs.items()}


def read_order() -> Order:
    """What the environment asks for, of the first run."""
    environ = os.environ
    rate_hz = float(environ.get("RATE", "0.5"))
    duration_s = 60 * float(environ.get("MINUTES", "10"))
    return Order(
        int(environ.get("SEED") or time.time_ns() % 1_000_000),
        Scale(duration_s=duration_s * (1 - CALM_PART), gap_s=1 / rate_hz if rate_hz else math.inf),
        Options(with_engine=environ.get("ENGINE", "1") != "0"),
        megabytes=int(environ.get("MEGABYTES", "200")),
        calm_s=duration_s * CALM_PART,
    )


def main() -> int:
    """Run with one seed after the other; exit code 1 if a promise was broken."""
    end_by_exceptions()
    order = read_order()
    seed_count, job_count = (int(os.environ.get(name) or 1) for name in ("SEEDS", "JOBS"))
    broken: list[int] = []
    with tempfile.TemporaryDirectory(prefix="qgf") as plain:
        expected = expected_exports(Path(plain)) if order.options.with_engine else {}
        order = replace(order, expected=expected)
        try:
            for directory, report in run_all(order, seed_count, job_count):
                print(report, flush=True)
                if report.violations:
                    broken.append(report.order.seed)
                    print(f"  replay it with `make chaos {_replay(report.order)}`; logs in {directory}")
                else:
                    shutil.rmtree(directory)
        except NamespaceError as exc:
            print(f"the harness needs root and network namespaces: {exc}", file=sys.stderr)
            return 2
    if seed_count > 1:
        print(f"{seed_count} seeds, {len(broken)} with violations: {sorted(broken)}")
    return 1 if broken else 0


def _replay(order: Order) -> str:
    minutes = order.scale.duration_s / (1 - CALM_PART) / 60
    engine = int(order.options.with_engine)
    rate_hz = 1 / order.scale.gap_s
    return (
        f"SEED={order.seed} MINUTES={minutes:g} RATE={rate_hz:g} ENGINE={engine} MEGABYTES={order.megabytes}"
    )


if __name__ == "__main__":
    sys.exit(main())
