"""Options that choose tests, and what lets two processes of pytest-xdist work side by side.

`--full`, `--compose`, `--slurm`, `--vm`: without them, tests that are marked so are left out.
"""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

from quakegrid.machine import temporary_clusters
from tests.groups import pytest_xdist_make_scheduler, rank

__all__ = ["pytest_xdist_make_scheduler"]

# The same examples in each run, and no limit on their time: neither luck nor load decides whether tests pass.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

OPTIONS = ("full", "compose", "slurm", "vm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--full", action="store_true", help="run the slow tests too, those marked `full`")
    parser.addoption("--compose", action="store_true", help="run the tests in containers (make test-compose)")
    parser.addoption("--slurm", action="store_true", help="run the tests with SLURM (make test-slurm)")
    parser.addoption("--vm", action="store_true", help="run the tests in virtual machines (make test-vm)")


def pytest_configure() -> None:
    """Undo what a shell does to background jobs, and share ports out among the processes of pytest-xdist."""
    # Programs that tests interrupt would inherit that SIGINT is ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    width = (temporary_clusters.LAST_PORT - temporary_clusters.FIRST_PORT) // count
    temporary_clusters.FIRST_PORT += number * width
    temporary_clusters.LAST_PORT = temporary_clusters.FIRST_PORT + width


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked by the name of an option that is not given; sort long groups to the front."""
    for name in OPTIONS:
        if not config.getoption(f"--{name}"):
            marked = [item for item in items if item.get_closest_marker(name)]
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]
    items.sort(key=lambda item: rank(item.nodeid))
