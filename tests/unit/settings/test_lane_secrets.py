"""The broker's secret for lanes: made once, whole, for its owner alone."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.settings import lane_secrets


def test_secret_stays_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A second broker with this state directory has the first one's secret."""
    state_dir = tmp_path / "new"
    made = lane_secrets.of_broker(state_dir)

    assert lane_secrets.of_broker(state_dir) == made
    assert len(made) > 40
    assert stat.S_IMODE((state_dir / lane_secrets.FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in state_dir.iterdir()] == [lane_secrets.FILE_NAME]
    assert lane_secrets.of_broker(tmp_path / "other") != made


def test_processes_that_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    """The broker and its lanes begin together."""
    found: list[str] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(lane_secrets.of_broker(tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_secret_on_a_volume_of_a_container_is_taken(tmp_path: Path) -> None:
    """Kubernetes lets the group of a pod do what the user may."""
    made = lane_secrets.of_broker(tmp_path)
    (tmp_path / lane_secrets.FILE_NAME).chmod(0o660)

    assert lane_secrets.of_broker(tmp_path) == made


@pytest.mark.parametrize(("content", "mode"), [("short\n", 0o600), ("x" * 43, 0o644), ("é" * 43, 0o600)])
def test_damaged_or_open_secret_is_refused_with_the_remedy(tmp_path: Path, content: str, mode: int) -> None:
    """A lane with a secret that others know would let them speak for sessions."""
    path = tmp_path / lane_secrets.FILE_NAME
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)

    with pytest.raises(errors.SettingsError, match=f"remove {path}"):
        lane_secrets.of_broker(tmp_path)
