"""What an engine's driver asks the broker, and how long it waits for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.engine.tasks import job_workers
from quakegrid.settings import config


def test_wait_that_took_longer_than_our_patience_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker said that no node came up: that is no broker that is away."""
    asked: list[float] = []
    said: list[str] = []

    def wait_for_nodes(_client: object, seconds: float) -> None:
        asked.append(seconds)
        raise errors.PeerUnreachableError("no node came up")

    monkeypatch.setattr(job_workers.BrokerClient, "wait_for_nodes", wait_for_nodes)
    monkeypatch.setattr(job_workers, "OPEN_PATIENCE_S", -1.0)  # is over at once
    path = testing.write_cluster_config(tmp_path / "state")
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    master = job_workers.JobWorkerMaster(settings, lambda: None, said.append)

    with pytest.raises(errors.PeerUnreachableError, match="no node came up"):
        master.wait(120.0)

    assert asked == [120.0]
    assert said == []
