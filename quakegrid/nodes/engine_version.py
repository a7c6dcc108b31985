"""Which openquake.engine is installed, and whether QuakeGrid knows it.

Reads package metadata only: the engine itself is never imported here.
"""

from __future__ import annotations

from importlib import metadata

from quakegrid import errors

DISTRIBUTION = "openquake.engine"
SUPPORTED = "3.26"


def installed_version() -> str:
    """The version of openquake.engine in this environment; empty when there is none."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def check_engine() -> str:
    """The version of the installed engine.

    Raises:
        EngineMissingError: there is no engine, or it is not one of the supported series.
    """
    version = installed_version()
    if not version:
        raise errors.EngineMissingError(
            "openquake.engine is not installed in this environment; "
            f"`pip install 'quakegrid[engine]'` installs {SUPPORTED}.x"
        )
    if version != SUPPORTED and not version.startswith(f"{SUPPORTED}."):
        raise errors.EngineMissingError(
            f"openquake.engine {version} is installed, but QuakeGrid works with {SUPPORTED}.x; "
            "`pip install 'quakegrid[engine]'` installs it"
        )
    return version
