"""Times empty tasks of the engine's own Starmap in its zmq mode: prints {"us": ...}, a task, as JSON.

Called by `bench_broker.py` in a process of its own, as the engine reads its settings when it is imported.
The pool of workers is the engine's own, on this machine and on free ports.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from tiny_tasks import empty_of

from quakegrid import testing

WORKERS, COUNT, ROUNDS = 2, 500, 2
MICRO = 1e6


def configure(root: Path) -> None:
    """Point the engine to files and ports of its own."""
    port, first, *_, last = testing.free_port_range(5)
    settings = root / "openquake.cfg"
    settings.write_text(
        f"[dbserver]\nhost = 127.0.0.1\nfile = {root}/db.sqlite3\nreceiver_host = 127.0.0.1\n"
        f"receiver_ports = {first}-{last}\n"
        f"[zworkers]\nhost_cores = 127.0.0.1 {WORKERS}\nctrl_port = {port}\n",
        encoding="utf-8",
    )
    os.environ |= testing.isolated_environ(root) | {
        "OQ_CONFIG_FILE": str(settings),
        "OQ_DISTRIBUTE": "zmq",
        "TMPDIR": str(root),
        "PYTHONPATH": str(Path(__file__).parent),
    }


def starmap_us() -> float:
    """As many tasks in flight as in the engine's calculations; the least of rounds after one to warm up."""
    from openquake.baselib import config, workerpool
    from openquake.baselib.parallel import Starmap

    master = workerpool.WorkerMaster(config.zworkers)
    with redirect_stdout(sys.stderr):
        master.start()
        try:
            master.wait()
            times = []
            for _ in range(ROUNDS + 1):
                start_s = time.perf_counter()
                assert list(Starmap(empty_of, [(number,) for number in range(COUNT)])) == [None] * COUNT
                times.append(time.perf_counter() - start_s)
        finally:
            master.stop()
    return min(times[1:]) / COUNT * MICRO


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-") as root:
        configure(Path(root))
        print(json.dumps({"us": starmap_us()}))
