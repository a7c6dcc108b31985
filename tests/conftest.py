"""Options `--full`, `--compose`, `--slurm`, `--vm`: without them, tests that are marked so are left out."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--full", action="store_true", help="run the slow tests too, those marked `full`")
    parser.addoption("--compose", action="store_true", help="run the tests in containers (make test-compose)")
    parser.addoption("--slurm", action="store_true", help="run the tests with SLURM (make test-slurm)")
    parser.addoption("--vm", action="store_true", help="run the tests in virtual machines (make test-vm)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked by the name of an option that is not given."""
    for name in ("full", "compose", "slurm", "vm"):
        if not config.getoption(f"--{name}"):
            marked = [item for item in items if item.get_closest_marker(name)]
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]
