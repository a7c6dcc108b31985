"""Whether the services of an installation came up, and whether the master knows the node: after `install`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from quakegrid import errors, health
from quakegrid.machine import local_services
from quakegrid.settings import config
from quakegrid.settings.config import Settings

# systemd starts them at once; a slow machine needs some time to import them.
PATIENCE_S = 60.0
PAUSE_S = 0.25


def troubles(
    services: Iterable[str], state_dir: Path, *, is_node: bool, now: Callable[[], float] = time.monotonic
) -> list[str]:
    """Wait until all services answer; what is still wrong after a minute, in sentences.

    Args:
        services: that were installed.
        state_dir: of the installation.
        is_node: whether the agent has to be known to a master elsewhere.
        now: the clock.
    """
    wanted, end_s = list(services), now() + PATIENCE_S
    while True:
        found = _look(wanted, state_dir, is_node=is_node)
        if not found or now() >= end_s:
            return found
        time.sleep(PAUSE_S)


def _look(services: list[str], state_dir: Path, *, is_node: bool) -> list[str]:
    try:
        settings = config.load_node_settings(state_dir)
    except errors.QuakeGridError as exc:
        return [str(exc)]
    records = {name: record for name, record in local_services.running(settings).items() if name in services}
    found = [
        f"quakegrid-{name} does not run: `journalctl -u quakegrid-{name} -n 20` says why"
        for name in services
        if name not in records
    ]
    found += health.troubles(settings, records).values()
    return found or (_unknown(settings) if is_node else [])


def _unknown(settings: Settings) -> list[str]:
    """Why the master does not know this node; empty if it does."""
    from quakegrid.clients import agent as agents  # noqa: PLC0415 - nodes only

    try:
        with closing(agents.local_client(settings)) as agent:
            status = agent.status()
    except errors.QuakeGridError as exc:
        return [str(exc)]
    if status.is_watched:
        return []
    master = status.master or settings.broker_address
    return [f"the master at {master} has not taken this node yet: `agentctl doctor` says why"]
