"""Lets the engine read all inputs of a calculation, as before a run. Nothing is computed, no job is made."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from openquake.calculators import base
from openquake.commonlib import datastore, logs, readinput

from quakegrid import errors

# The number of a calculation that is only looked at.
NUMBER = 999_999_999
_RISK = ("risk", "damage", "bcr")
# Inputs that give ground motion to a risk calculation; without one it starts from a hazard calculation.
_HAZARD_INPUTS = (
    "gmfs",
    "hazard_curves",
    "rupture_model",
    "shakemap",
    "source_model",
    "source_model_logic_tree",
    "station_data",
)


def read(
    job_ini: str,
    params: Mapping[str, str] | None = None,
    parent_id: int | None = None,
    *,
    look: Callable[[Any], None] = lambda _calculator: None,
    check_files: Callable[[Any], None] = lambda _oqparam: None,
) -> None:
    """Read the inputs of a calculation.

    Args:
        job_ini: path of the job file.
        params: in place of values of the file.
        parent_id: the calculation to start from.
        look: told of the calculator when all is read.
        check_files: told of the parameters before the other files are read.
    Raises:
        UsageError: it is a risk calculation without hazard, or lacks the time of its hazard.
        Exception: of the engine; it says what is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        given: dict[str, Any] = {"export_dir": folder, **(params or {})}
        if parent_id is not None:
            given["hazard_calculation_id"] = parent_id
        _check_hazard(readinput.get_params(job_ini, given))
        with _only_looked_at(folder):
            oqparam = readinput.get_oqparam(job_ini, kw=given)
            check_files(oqparam)
            calculator = base.calculators(oqparam, NUMBER)
            try:
                _read_inputs(calculator, oqparam)
                look(calculator)
            finally:
                calculator.datastore.close()


def _read_inputs(calculator: Any, oqparam: Any) -> None:
    """Let a calculator read its inputs; one of risk with a hazard of its own would begin to compute it."""
    if oqparam.hazard_calculation_id is None and _is_risk(oqparam.calculation_mode):
        calculator.save_params()
        calculator.read_inputs()
        return
    with mock.patch.dict(os.environ, {"OQ_CHECK_INPUT": "1"}):
        calculator.run()


def _is_risk(mode: str) -> bool:
    return any(word in mode for word in _RISK)


def _check_hazard(params: Mapping[str, Any]) -> None:
    """Refuse what lacks a hazard or its time, which the engine tells in words of something else."""
    inputs = params.get("inputs", {})
    if "source_model_logic_tree" in inputs and "investigation_time" not in params:
        raise errors.UsageError("it does not say investigation_time")
    if not _is_risk(params["calculation_mode"]) or params.get("hazard_calculation_id"):
        return
    if not any(name.startswith(_HAZARD_INPUTS) for name in inputs) and "rupture_dict" not in params:
        raise errors.UsageError(
            "it is a risk calculation without a hazard of its own: give the hazard calculation that it "
            "starts from, by --hc ID"
        )


@contextlib.contextmanager
def _only_looked_at(folder: str) -> Iterator[None]:
    """Let a calculator read its inputs only: its datastore is in a folder, and no database knows of it."""
    place = Path(folder, f"calc_{NUMBER}")
    row = SimpleNamespace(id=NUMBER, ds_calc_dir=str(place), hazard_calculation_id=None)
    original = logs.dbcmd

    def dbcmd(action: str, *args: Any) -> Any:
        if action != "get_job":
            return None
        return row if args[0] == NUMBER else original(action, *args)

    with (
        mock.patch.dict(os.environ, {"OQ_DISTRIBUTE": "no"}),
        mock.patch.object(logs, "dbcmd", dbcmd),
        mock.patch.object(datastore, "dbcmd", dbcmd),
    ):
        yield
