"""Imports of the template before it forks: the engine, and the modules that `[agent] preload` names.

If something cannot be loaded, the template's state says so. Workers then start all the same, but cold.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import time
import traceback
from typing import Any

from quakegrid.errors import EngineMissingError
from quakegrid.jobs import texts
from quakegrid.nodes import engine_version, environment
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.node.templates import code_stamps
from quakegrid.services.agent.orders import LoadedCode, Ready
from quakegrid.services.agent.template.children import DriverMain
from quakegrid.services.agent.worker.threads import THREAD_VARIABLES
from quakegrid.settings.config import Settings
from quakegrid.settings.sections import ENGINE

# Texts in a report are cut to so many characters, so that the report fits a packet.
MAX_REASON_CHARS = 4000
MAX_ERROR_CHARS = 500


def preload(settings: Settings, bare_reason: str = "") -> tuple[Ready, DriverMain]:
    """Import the modules that workers and drivers will need. Workers can start without them, but cold.

    Args:
        settings: of the cluster.
        bare_reason: why nothing shall be preloaded; empty if it shall.
    Returns:
        The report for the agent, and the main function of drivers.
    """
    start_s = time.monotonic()
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    import quakegrid.sdk.chunks  # noqa: PLC0415 - the environment must be set first
    import quakegrid.sdk.worker_setup  # noqa: PLC0415 - as above
    import quakegrid.services.agent.worker.worker  # noqa: F401, PLC0415 - as above

    fingerprint = environment.of_node()  # before the imports, so that a change during them is noticed
    _read_configuration(settings)
    if bare_reason:
        _let_children_find(settings)
        state, code = TemplateState(TemplateKind.COLD, bare_reason), LoadedCode("", bare_reason, fingerprint)
        return _ready(state, code, start_s), _refusing(bare_reason)
    failures = [failure for name in settings.preload if name != ENGINE for failure in _import(name)]
    missing = _why_no_engine(settings)
    if missing:
        kind = TemplateKind.COLD if failures else TemplateKind.WARM
        if ENGINE not in settings.preload:
            fingerprint[engine_version.DISTRIBUTION] = "kept away"
        state = TemplateState(kind, "; ".join([*failures, f"without the engine: {missing}"]))
        return _ready(state, LoadedCode("", missing, fingerprint), start_s), _refusing(missing)
    state, code, run_driver = _preload_engine(settings, fingerprint, failures)
    return _ready(state, code, start_s), run_driver


def _read_configuration(settings: Settings) -> None:
    """Have the engine read its configuration, from files without the authkey, before a module imports it."""
    if ENGINE not in settings.preload:
        return
    from quakegrid.engine import first_import  # noqa: PLC0415 - as the engine

    with contextlib.suppress(Exception):  # it is imported again, and its tasks say what is wrong
        first_import.import_baselib(map(str, settings.paths))


def one_line(exc: BaseException) -> str:
    """An error in one line, cut so that it fits a packet."""
    return texts.cut(f"{type(exc).__name__}: {' '.join(str(exc).split())}", MAX_ERROR_CHARS)


def _ready(state: TemplateState, code: LoadedCode, start_s: float) -> Ready:
    """The report of a template that began to load at `start_s`; its texts fit a packet."""
    short_state = TemplateState(state.kind, texts.cut(state.reason, MAX_REASON_CHARS))
    missing = texts.cut(code.engine_missing, MAX_REASON_CHARS)
    short_code = LoadedCode(code.engine_version, missing, code.fingerprint)
    return Ready(short_state, short_code, time.monotonic() - start_s)


def _preload_engine(
    settings: Settings, fingerprint: dict[str, str], failures: list[str]
) -> tuple[TemplateState, LoadedCode, DriverMain]:
    code_stamp = code_stamps.look(settings.preload)  # before the imports, as above
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
        return state, LoadedCode("", missing, fingerprint), _refusing(missing)
    kind = TemplateKind.COLD if failures else TemplateKind.WARM
    run_driver = functools.partial(
        driver.main,
        fingerprint=environment.for_calculations(fingerprint),
        code_stamp=code_stamp,
    )
    return TemplateState(kind, "; ".join(failures)), LoadedCode(version, "", fingerprint), run_driver


def _let_children_find(settings: Settings) -> None:
    """Let workers that load the engine by themselves find the cluster's settings."""
    from quakegrid.engine import this_process  # noqa: PLC0415 - it imports no engine

    os.environ["QUAKEGRID_STATE_DIR"] = str(settings.state_dir)
    this_process.prepare(settings, is_warm=False)


def _import(name: str) -> list[str]:
    """Import a module; returns what went wrong."""
    try:
        importlib.import_module(name)
    except BaseException as exc:  # noqa: BLE001 - it is the user's, and may do anything
        traceback.print_exc()
        return [f"{name} cannot be loaded: {one_line(exc)}"]
    return []


def _why_no_engine(settings: Settings) -> str:
    if ENGINE not in settings.preload:
        named = ", ".join(settings.preload) or "none"
        return f"[agent] preload = {named} in openquake.cfg keeps openquake.engine away from this node"
    try:
        engine_version.check_engine(tries_others=settings.try_engine)
    except EngineMissingError as exc:
        return str(exc)
    return ""


def _refusing(reason: str) -> DriverMain:
    """The main function of drivers where there is no engine: it refuses, and says why."""

    def refuse(_request: dict[str, Any], events_fd: int) -> int:
        with open(events_fd, "wb", buffering=0) as events:
            events.write(json.dumps({"event": "refused", "message": reason}).encode() + b"\n")
        return 1

    return refuse
