"""`make chaos`: runs of the harness by hand, as SEED, SEEDS, MINUTES, RATE, ENGINE and MEGABYTES say."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.engine import cases
from tests.engine.plain_runs import running_plain_engine
from tests.faults.harness.plan import Scale
from tests.faults.harness.run import Order, carry_out
from tests.faults.harness.services import Options
from tests.faults.harness.work import ENGINE_CASES
from tests.namespaces import NamespaceError


def expected_exports(directory: Path) -> dict[str, Path]:
    """Run the plain engine on the cases; where its exports are."""
    wanted = [case for case in cases.CASES if case.folder in ENGINE_CASES]
    with running_plain_engine(directory, wanted) as plain:
        return {case.folder: plain.exports(case)[0] for case in wanted}


def main() -> int:
    """Run with one seed after the other; exit code 1 if a promise was broken."""
    environ = os.environ
    seed = int(environ.get("SEED") or time.time_ns() % 1_000_000)
    minutes, gap_s = float(environ.get("MINUTES", "10")), 1 / float(environ.get("RATE", "0.5"))
    with_engine = environ.get("ENGINE", "1") != "0"
    broken = 0
    with tempfile.TemporaryDirectory(prefix="qgf") as plain:
        expected = expected_exports(Path(plain)) if with_engine else {}
        for each in range(seed, seed + int(environ.get("SEEDS", "1"))):
            order = Order(
                each,
                Scale(duration_s=60 * minutes, gap_s=gap_s),
                Options(with_engine=with_engine),
                megabytes=int(environ.get("MEGABYTES", "200")),
                expected=expected,
            )
            directory = Path(tempfile.mkdtemp(prefix="qgf"))
            try:
                report = carry_out(order, directory, lambda text: print(text, flush=True))
            except NamespaceError as exc:
                print(f"the harness needs root and network namespaces: {exc}", file=sys.stderr)
                return 2
            print(report, flush=True)
            if report.violations:
                broken += 1
                again = f"SEED={each} MINUTES={minutes:g} RATE={1 / gap_s:g} ENGINE={with_engine:d}"
                print(f"  replay it with `make chaos {again}`; logs in {directory}")
            else:
                shutil.rmtree(directory)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
