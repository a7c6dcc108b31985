"""Which openquake.engine is installed, and whether QuakeGrid knows it.

Reads package metadata only: the engine itself is never imported here.
"""

from __future__ import annotations

from importlib import metadata

from quakegrid import errors

DISTRIBUTION = "openquake.engine"
# Series that QuakeGrid knows, the newest first; `quakegrid/engine/versions.py` says how they differ.
SUPPORTED = ("3.26", "3.25", "3.24", "3.23")
KNOWN = f"{SUPPORTED[-1]} to {SUPPORTED[0]}"


def installed_version() -> str:
    """The version of openquake.engine in this environment; empty when there is none."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def check_engine(*, tries_others: bool = False) -> str:
    """The version of the installed engine.

    Args:
        tries_others: accept a version that QuakeGrid was not tested with (`[agent] try_engine`).
    Raises:
        EngineMissingError: there is no engine, or it is not one of the supported series.
    """
    version = installed_version()
    if not version:
        raise errors.EngineMissingError(
            "openquake.engine is not installed in this environment; "
            f"`pip install 'openquake.engine=={SUPPORTED[0]}.*'` installs one that QuakeGrid knows"
        )
    if not is_known(version) and not tries_others:
        raise errors.EngineMissingError(
            f"openquake.engine {version} is installed, but QuakeGrid works with {KNOWN}; "
            f"`pip install 'openquake.engine=={SUPPORTED[0]}.*'` installs another. To try it all the same: "
            "`quakegrid up --try-engine`, or [agent] try_engine = yes in openquake.cfg"
        )
    return version


def doubt() -> str:
    """What is said when an engine is used that QuakeGrid was not tested with; empty if it was."""
    version = installed_version()
    if is_known(version):
        return ""
    return (
        f"openquake.engine {version} was not tested with QuakeGrid, which knows {KNOWN}: "
        "compare its results with those of the plain engine"
    )


def is_known(version: str) -> bool:
    """Whether an engine is of one of the series that QuakeGrid was tested with."""
    return any(version == series or version.startswith(f"{series}.") for series in SUPPORTED)
