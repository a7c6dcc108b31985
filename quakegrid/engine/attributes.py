"""Reads and replaces attributes of the engine's modules; an error where the engine does not have them."""

from __future__ import annotations

from typing import Any

from quakegrid import errors


def read(module: Any, name: str) -> Any:
    """An attribute of the engine.

    Raises:
        EngineMissingError: the engine has none of that name; one of ours would never be used there.
    """
    if not hasattr(module, name):
        raise errors.EngineMissingError(
            f"this openquake.engine has no {module.__name__}.{name}, which QuakeGrid replaces; install a "
            "version that QuakeGrid knows"
        )
    return getattr(module, name)


def replace(module: Any, name: str, new: Any) -> None:
    """Replace an attribute of the engine.

    Raises:
        EngineMissingError: as `read`.
    """
    read(module, name)
    setattr(module, name, new)
