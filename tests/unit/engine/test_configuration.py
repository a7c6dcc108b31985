"""The engine's configuration in a driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.engine import configuration, this_process
from quakegrid.settings import config
from quakegrid.settings.config import ONLY_CONFIG


def test_file_that_cannot_be_read_keeps_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes to the agent's log and to the person, and any line may have a secret."""
    settings = config.load_settings(tmp_path, {})
    monkeypatch.setattr(this_process._Own, "settings", settings)
    path = tmp_path / "openquake.cfg"
    path.write_text("[notify]\nurl Zt5hPw\n")

    with pytest.raises(errors.SettingsError, match=r"openquake.cfg is not .* file: .* in line 2$") as raised:
        configuration.read({"OQ_CONFIG_FILE": str(path), ONLY_CONFIG: "1"})

    assert raised.value.__cause__ is None
