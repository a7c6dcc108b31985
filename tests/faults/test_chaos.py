"""Short runs of the fault harness, with seeds that are always the same; `make chaos` runs longer ones."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.plan import Scale
from tests.faults.harness.run import Order, carry_out
from tests.faults.harness.services import Options
from tests.support.namespaces import NamespaceError, Network

# Nodes are given up early enough for a fault of the plan to outlast it.
OPTIONS = Options(node_count=2, node_timeout_s=4.0, stopped_timeout_s=1)
SCALE = Scale(
    duration_s=8.0,
    gap_s=0.8,
    node_count=2,
    short_s=(0.5, 1.0, 2.0),
    long_s=(1.0, 7.0),
    end_s=(1.0, 5.0),
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: unix sockets are below it."""
    try:
        with Network(1):
            pass
    except (NamespaceError, FileNotFoundError) as exc:
        pytest.skip(f"the fault harness needs root and network namespaces: {exc}")
    path = Path(tempfile.mkdtemp(prefix="qgf"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_whatever_breaks(seed: int, directory: Path) -> None:
    """Sums are exact, results whole, and nothing of any job or service is left."""
    report = carry_out(Order(seed, SCALE, OPTIONS, sums=3000, megabytes=16), directory)

    assert report.violations == [], report


@pytest.mark.full
def test_ten_sessions_at_once_lose_nothing_either(directory: Path) -> None:
    """More than there are cores and lanes: they take turns, and share lanes."""
    report = carry_out(Order(3, SCALE, OPTIONS, sums=1000, megabytes=8, session_count=10), directory)

    assert report.violations == [], report
