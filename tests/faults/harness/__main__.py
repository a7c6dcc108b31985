"""`make chaos`: runs of the harness by hand, as docs/background/measurements.md says."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.engine import cases
from tests.engine.plain_runs import running_plain_engine
from tests.faults.harness.plan import Scale
from tests.faults.harness.run import Order
from tests.faults.harness.services import Options
from tests.faults.harness.side_by_side import end_by_exceptions, run_all
from tests.faults.harness.work import ENGINE_CASES
from tests.support.namespaces import NamespaceError

# Of the time, before the first fault: what throughput is measured by.
CALM_PART = 0.1


def expected_exports(directory: Path) -> dict[str, Path]:
    """Run the plain engine on the cases; where its exports are."""
    wanted = [case for case in cases.CASES if case.folder in ENGINE_CASES]
    with running_plain_engine(directory, wanted) as plain:
        return {case.folder: plain.exports(case)[0] for case in wanted}


def read_order() -> Order:
    """What the environment asks for, of the first run."""
    environ = os.environ
    rate_hz = float(environ.get("RATE", "0.5"))
    duration_s = 60 * float(environ.get("MINUTES", "10"))
    with_engine = environ.get("ENGINE", "1") != "0"
    return Order(
        int(environ.get("SEED") or time.time_ns() % 1_000_000),
        Scale(duration_s=duration_s * (1 - CALM_PART), gap_s=1 / rate_hz if rate_hz else math.inf),
        Options(with_engine=with_engine),
        megabytes=int(environ.get("MEGABYTES", "200")),
        calm_s=duration_s * CALM_PART,
        session_count=max(2, int(environ.get("SESSIONS") or 2 + with_engine)),
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
        f"SEED={order.seed} MINUTES={minutes:g} RATE={rate_hz:g} ENGINE={engine} "
        f"MEGABYTES={order.megabytes} SESSIONS={order.session_count}"
    )


if __name__ == "__main__":
    sys.exit(main())
