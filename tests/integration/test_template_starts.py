"""Templates that cannot be started for a while, in the test's own event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quakegrid import config, testing
from services.agent import lineage
from services.agent.templates import Templates

TIMEOUT_S = 60.0


def test_template_is_started_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was ordered meanwhile waits and is done."""
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    monkeypatch.setenv("OQ_CONFIG_FILE", str(path))
    monkeypatch.setattr(lineage, "LOAD_PAUSE_S", 0.01)
    executable = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))

    async def run() -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        reports: list[dict[str, Any]] = []
        told = loop.create_future()

        def on_report(packet: dict[str, Any]) -> None:
            reports.append(packet)
            if not told.done():
                told.set_result(None)

        def on_lost(_names: Sequence[str], _reason: str) -> None:
            raise AssertionError("no template was lost")

        templates = Templates(settings, "a-b-c", on_report=on_report, on_state=lambda: None, on_lost=on_lost)
        templates.start()
        # Without its setup, which the template will refuse.
        templates.order({"order": "fork_worker", "name": "w", "worker": {}})
        assert not templates.pid
        monkeypatch.setattr(sys, "executable", executable)
        try:
            await asyncio.wait_for(told, TIMEOUT_S)
            assert templates.state.is_ready
        finally:
            templates.stop(1.0)
        return reports

    (report,) = asyncio.run(run())

    assert (report["report"], report["name"]) == ("not_forked", "w")
