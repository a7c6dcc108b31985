"""Replaces attributes of the engine's modules, and refuses where a replacement would have no effect."""

from __future__ import annotations

from typing import Any

from quakegrid import errors


def replace(module: Any, name: str, new: Any) -> None:
    """Replace an attribute of the engine.

    Raises:
        EngineMissingError: the engine has none of that name, so that ours would never be used.
    """
    if not hasattr(module, name):
        raise errors.EngineMissingError(
            f"this openquake.engine has no {module.__name__}.{name}, which QuakeGrid replaces; install a "
            "version that QuakeGrid knows"
        )
    setattr(module, name, new)
