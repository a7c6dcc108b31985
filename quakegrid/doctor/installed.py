"""Versions of installed packages, from metadata: light enough for a task to import."""

from __future__ import annotations

import platform
from importlib import metadata

from quakegrid import __version__
from quakegrid.doctor.facts import Versions
from quakegrid.nodes import engine_version


def own_versions() -> Versions:
    """Versions of this environment."""
    try:
        numpy = metadata.version("numpy")
    except metadata.PackageNotFoundError:
        numpy = ""
    return Versions(platform.python_version(), __version__, engine_version.installed_version(), numpy)
