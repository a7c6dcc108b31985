"""The configuration file of the templates: what the agent's own files say, without the authkey."""

from __future__ import annotations

import configparser
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from quakegrid.errors import SettingsError
from quakegrid.settings import keyless, reader
from quakegrid.settings.config import ONLY_CONFIG, RUN_FOLDER, config_paths

NAME = "template.cfg"


def environ_of(state_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Write the file anew; returns variables for a template, by which it and its children read no other file.

    Args:
        state_dir: of the cluster.
        environ: of the agent.
    Raises:
        OSError: it cannot be written, or one of the agent's own files is damaged now.
    """
    try:
        merged = keyless.merge(config_paths(state_dir, environ))
    except configparser.Error as exc:
        place = getattr(exc, "source", "")
        raise OSError(f"the configuration cannot be read: {place}: {reader.trouble_of(exc)}") from None
    except (SettingsError, UnicodeDecodeError) as exc:
        raise OSError(f"the configuration cannot be read: {' '.join(str(exc).split())}") from None
    folder = state_dir / RUN_FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / NAME
    descriptor, fresh = tempfile.mkstemp(prefix=f".{NAME}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            merged.write(file)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    return {"OQ_CONFIG_FILE": str(path), ONLY_CONFIG: "1"}


def remove(state_dir: Path) -> None:
    """Remove the file, when no template is left."""
    (state_dir / RUN_FOLDER / NAME).unlink(missing_ok=True)
