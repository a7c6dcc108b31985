"""What can be known of a calculation before it runs: whether its inputs are valid, and how large it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from openquake.commonlib import readinput
from openquake.commonlib.oqvalidation import OqParam

from quakegrid import errors
from quakegrid.engine.checks import reading
from quakegrid.engine.driver import parameters, stops

# Warnings of the engine that are told; a large model can give one for each of its sources.
MOST_WARNINGS = 50


class _Kept(logging.Handler):
    """Keeps the first warnings, once each."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < MOST_WARNINGS:
            self.lines[record.getMessage().strip()] = None


def check(job_ini: str, params: Mapping[str, str], parent_id: int | None) -> dict[str, Any]:
    """Read a calculation's inputs, and tell what is wrong or how large it is.

    Args:
        job_ini: path of the job file.
        params: in place of values of the file.
        parent_id: the calculation to start from.
    Returns:
        `refusal` (empty if it is valid), `hints` on names that the engine ignores, `warnings` of the engine,
        `read_s`, `description`, `mode`, and `facts`: counts, of those that it has.
    """
    found: dict[str, Any] = {"refusal": "", "hints": [], "description": "", "mode": "", "facts": {}}
    kept, start_s = _Kept(), time.monotonic()

    def look(calculator: Any) -> None:
        found["facts"] = facts_of(calculator)

    root = logging.getLogger()
    root.addHandler(kept)
    try:
        parameters.check(params, parameters.known_to(OqParam), OqParam.KNOWN_INPUTS)
        text = readinput.get_params(job_ini)
        found |= {"description": str(text.get("description", "")), "mode": str(text["calculation_mode"])}
        found["hints"] = parameters.hints(text, parameters.known_to(OqParam))
        reading.read(job_ini, params, parent_id, look=look)
    except errors.QuakeGridError as exc:
        found["refusal"] = str(exc)
    except Exception as exc:  # noqa: BLE001 - told to the person who asks
        found["refusal"] = stops.job_file_line(exc)
    finally:
        root.removeHandler(kept)
    return found | {"warnings": list(kept.lines), "read_s": round(time.monotonic() - start_s, 2)}


def facts_of(calculator: Any) -> dict[str, int]:
    """How large a calculation is, in counts; what it does not have is left out.

    Args:
        calculator: of the engine, which has read its inputs.
    """
    oqparam = calculator.oqparam
    found: dict[str, int] = {}
    for name, attribute in (("sites", "sitecol"), ("assets", "assetcol"), ("risk_functions", "crmodel")):
        part = getattr(calculator, attribute, None)
        if part is not None and len(part):
            found[name] = len(part)
    if oqparam.imtls:
        found |= {"intensity_measures": len(oqparam.imtls), "levels": int(oqparam.imtls.size)}
    csm = getattr(calculator, "csm", None)
    if csm is not None:
        sources = csm.get_sources()
        found["sources"] = len(sources)
        found["ruptures"] = int(sum(source.num_ruptures for source in sources))
        found["ground_motion_models"] = sum(map(len, csm.full_lt.gsim_lt.values.values()))
        found["realizations"] = int(oqparam.number_of_logic_tree_samples or csm.full_lt.get_num_paths())
    return found
