"""Loads the engine in the template before it forks: modules and commands, with the seams in place."""

from __future__ import annotations

import importlib

from quakegrid.engine import configuration, optional_parts, seams, this_process
from quakegrid.nodes import engine_version
from quakegrid.settings.config import Settings

PRELOADED_COMMANDS = (
    "engine",
    "show",
    "export",
    "extract",
    "run",
    "workers",
    "info",
    "abort",
    "db",
    "purge",
    "reset",
)


def preload(settings: Settings) -> str:
    """Import the engine with the seams in place; returns its version.

    Raises:
        EngineMissingError: not installed, or not a version that we know.
    """
    version = engine_version.check_engine(tries_others=settings.try_engine)
    this_process.prepare(settings)
    optional_parts.load_late()
    seams.install(seams.OF_TASKS)
    configuration.read_in_template(settings.paths)
    seams.install(seams.OF_COMMANDS)
    importlib.import_module("openquake.commands.__main__")
    for name in PRELOADED_COMMANDS:
        importlib.import_module(f"openquake.commands.{name}")
    return version
