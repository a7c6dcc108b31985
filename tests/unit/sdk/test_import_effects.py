"""What programs that import QuakeGrid get with it: names, and no change of their process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MODULES_AT_LEAST = 100


def test_import_of_no_module_changes_the_importing_process() -> None:
    """Environment, signals, logs, warnings, hooks, threads, files and limits are the program's own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.calls.process_state"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("GRPC_")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == ""
    assert int(done.stderr.split()[0]) > MODULES_AT_LEAST


def test_differences_of_two_states_are_told() -> None:
    """Else the test above would see nothing."""
    code = (
        "import os, signal, sys, warnings\n"
        "from tests.support.calls import process_state\n"
        "before = process_state.snapshot()\n"
        "os.environ['ONE_MORE'] = 'yes'\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "warnings.simplefilter('ignore')\n"
        "sys.excepthook = print\n"
        "changes = process_state.differences(before, process_state.snapshot())\n"
        "print(*(line.split(':')[0] for line in changes))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "environment signals kernel's signals warnings hooks\n"


def test_package_shows_what_programs_use() -> None:
    """Interactive shells complete these names, and none of how they are loaded."""
    import quakegrid

    assert dir(quakegrid) == ["Cluster", "ClusterExecutor", "LocalCluster", "__version__"]
