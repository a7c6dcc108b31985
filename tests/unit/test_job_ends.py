"""How the broker fails a job whose driver is gone, whatever the dbserver answers at first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quakegrid import config, errors, testing
from services.broker import job_ends


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[errors.QuakeGridError]:
    """What the dbserver answers, one after the other, before it does what it is told."""
    answers: list[errors.QuakeGridError] = []

    async def end_job(*_args: object) -> bool:
        if answers:
            raise answers.pop(0)
        return True

    monkeypatch.setattr(job_ends, "end_job", end_job)
    monkeypatch.setattr(job_ends, "RETRY_S", (0.0,))
    monkeypatch.setattr(job_ends, "LAST_RETRY_S", 0.0)
    return answers


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [errors.PeerUnreachableError("away")] * 3,
        [errors.QuakeGridError("its disk is full")] * 3,
        [errors.NotFoundError("it was deleted")],
    ],
    ids=["there", "away", "full", "deleted"],
)
def test_failing_a_job_goes_on_until_the_dbserver_can(
    answers: list[errors.QuakeGridError], asked: list[errors.QuakeGridError], tmp_path: Path
) -> None:
    """Nothing that it says ends the broker."""
    asked += answers
    path = testing.write_cluster_config(tmp_path / "state")
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})

    asyncio.run(job_ends.fail_job(settings, 1, "its driver is gone"))

    assert asked == []
