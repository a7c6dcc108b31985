"""The options of an executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quakegrid import ClusterExecutor
from quakegrid.settings.config import load_settings


def test_option_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    """Before the broker is asked for anything."""
    options: dict[str, Any] = {"core_per_worker": 2, "weight": 1.0}

    with pytest.raises(TypeError, match=r"no option core_per_worker$"):
        ClusterExecutor(load_settings(tmp_path), **options)


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"cores_per_worker": 0}])
def test_options_below_one_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """Before the broker is asked for anything."""
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be greater than 0"):
        ClusterExecutor(load_settings(tmp_path), **options)
