"""What the template imports before it forks: the engine, and the modules that `[agent] preload` names.

Whatever cannot be loaded is said in the template's state; workers then start all the same, cold.
"""

from __future__ import annotations

import importlib
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import EngineMissingError
from quakegrid.nodes import engine_version, environment
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.settings.config import ENGINE, Settings
from services.agent.worker.threads import THREAD_VARIABLES


@dataclass(frozen=True, slots=True)
class Preloaded:
    """What the children will find; `run_driver` is `main` of quakegrid.engine.driver.main, or refuses.

    The state and `engine_missing` say why there is no engine, or why children start cold.
    """

    run_driver: Callable[[dict[str, Any], int], int]
    state: TemplateState
    fingerprint: dict[str, str]
    engine_version: str = ""
    engine_missing: str = ""


def preload(settings: Settings, bare_reason: str = "") -> Preloaded:
    """Import what workers and drivers will need; without it workers still can start, cold.

    Args:
        settings: of the cluster.
        bare_reason: why nothing shall be preloaded; empty if it shall.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    import services.agent.worker.worker  # noqa: F401, PLC0415 - the environment must be set first

    fingerprint = environment.of_node()  # before the imports: a change meanwhile will be noticed
    if bare_reason:
        _let_children_find(settings)
        state = TemplateState(TemplateKind.COLD, bare_reason)
        return Preloaded(_refusing(bare_reason), state, fingerprint, engine_missing=bare_reason)
    failures = [failure for name in settings.preload if name != ENGINE for failure in _import(name)]
    missing = _why_no_engine(settings)
    if missing:
        kind = TemplateKind.COLD if failures else TemplateKind.WARM
        if ENGINE not in settings.preload:
            fingerprint[engine_version.DISTRIBUTION] = "kept away"
        state = TemplateState(kind, "; ".join([*failures, f"without the engine: {missing}"]))
        return Preloaded(_refusing(missing), state, fingerprint, engine_missing=missing)
    return _preload_engine(settings, fingerprint, failures)


def _preload_engine(settings: Settings, fingerprint: dict[str, str], failures: list[str]) -> Preloaded:
    try:
        from quakegrid.engine import preload as engine  # noqa: PLC0415 - it imports the engine
        from quakegrid.engine.driver import main as driver  # noqa: PLC0415 - as above

        version = engine.preload(settings)
        from quakegrid.engine import import_settings  # noqa: PLC0415 - what it reads is imported by now

        fingerprint |= import_settings.read()
    except BaseException as exc:  # noqa: BLE001 - workers import it again, and their tasks say what is wrong
        traceback.print_exc()
        _let_children_find(settings)
        missing = f"openquake.engine cannot be loaded: {one_line(exc)}"
        state = TemplateState(TemplateKind.COLD, "; ".join([*failures, missing]))
        return Preloaded(_refusing(missing), state, fingerprint, engine_missing=missing)
    kind = TemplateKind.COLD if failures else TemplateKind.WARM
    needs = environment.for_calculations(fingerprint)

    def run_driver(request: dict[str, Any], events_fd: int) -> int:
        """What each forked driver runs."""
        return driver.main(request, events_fd, fingerprint=needs)

    return Preloaded(run_driver, TemplateState(kind, "; ".join(failures)), fingerprint, version)


def _let_children_find(settings: Settings) -> None:
    """Workers that have to load the engine by themselves will look for the cluster's settings."""
    os.environ["QUAKEGRID_STATE_DIR"] = str(settings.state_dir)


def _import(name: str) -> list[str]:
    """Import a module; returns what went wrong."""
    try:
        importlib.import_module(name)
    except BaseException as exc:  # noqa: BLE001 - it is the user's, and may do anything
        traceback.print_exc()
        return [f"{name} cannot be loaded: {one_line(exc)}"]
    return []


def one_line(exc: BaseException) -> str:
    """An error in one line, cut so that it fits a packet."""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}"[:500]


def _why_no_engine(settings: Settings) -> str:
    if ENGINE not in settings.preload:
        named = ", ".join(settings.preload) or "none"
        return f"[agent] preload = {named} in openquake.cfg keeps openquake.engine away from this node"
    try:
        engine_version.check_engine()
    except EngineMissingError as exc:
        return str(exc)
    return ""


def _refusing(reason: str) -> Callable[[dict[str, Any], int], int]:
    """Stands in for the driver's main, for command lines that came before the agent knew the reason."""

    def refuse(_request: dict[str, Any], events_fd: int) -> int:
        with open(events_fd, "wb", buffering=0) as events:
            events.write(json.dumps({"event": "refused", "message": reason}).encode() + b"\n")
        return 1

    return refuse
