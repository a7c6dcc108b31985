"""Which tests pytest-xdist runs in one process, one after the other, and what begins first.

The tests of a module stay together, so that a fixture of the module is made once. So do modules that share a
fixture of the whole session. pytest 9 loses the marks of pytest-xdist for groups: hence the scheduler.
Groups that take long come first, so that at the end no process waits for another.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Tests that share the fixtures of a session: a cluster, or the accounts of a machine.
SHARED = {
    "tests/engine/": ("tests/engine/",),
    "tests/people/": ("tests/people/",),
    "tests/faults/": (
        "tests/faults/following/",
        "tests/faults/secrets/",
        "tests/faults/test_bad_input.py",
        "tests/faults/test_calculation_faults.py",
        "tests/faults/test_reboot.py",
        "tests/faults/test_service_faults.py",
        "tests/faults/test_stopped_driver.py",
    ),
}
# Groups that take more than 15 s, about in their order.
LONG = (
    "tests/faults/",
    "tests/engine/",
    "tests/integration/agent/test_agentctl.py",
    "tests/integration/sdk/test_sdk_cluster.py",
    "tests/integration/agent/test_agent_life.py",
    "tests/system/test_namespaces.py",
    "tests/faults/test_chaos.py",
    "tests/faults/test_abort.py",
    "tests/integration/agent/test_agent_limits.py",
    "tests/integration/agent/test_templates.py",
    "tests/faults/dbserver/test_dbserver_peers.py",
    "tests/integration/broker/test_workers_commands.py",
    "tests/people/",
    "tests/integration/people/test_certified_nodes.py",
    "tests/integration/broker/test_clock_jumps.py",
    "tests/integration/broker/test_broker.py",
)


def group_of(nodeid: str) -> str:
    """The group of a test."""
    module = nodeid.partition("::")[0]
    return next((name for name, paths in SHARED.items() if module.startswith(paths)), module)


def rank(nodeid: str) -> int:
    """What sorts tests so that long groups come first, all others as they were."""
    group = group_of(nodeid)
    return LONG.index(group) if group in LONG else len(LONG)


class GroupScheduling(LoadScopeScheduling):
    """Gives each process one group after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling | None:
    """Use the groups where `--dist=loadscope` asks for it."""
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadscope" else None
