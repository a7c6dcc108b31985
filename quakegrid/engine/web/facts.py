"""What the engine knows by itself: ground motion models, defaults of parameters, formats of outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openquake.baselib.general import groupby
from openquake.calculators import export as engine_export
from openquake.commonlib.oqvalidation import OqParam
from openquake.hazardlib import valid

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess

# Upstream shows no output in this format.
HIDDEN_FORMAT = "txt"


def formats(_driver: DriverProcess) -> dict[str, Any]:
    """The formats of each kind of output, in upstream's order."""
    found = groupby(engine_export.export, lambda key: key[0], lambda keys: [kind for _, kind in keys])
    return {
        "formats": {key: [kind for kind in kinds if kind != HIDDEN_FORMAT] for key, kinds in found.items()}
    }


def available_gsims(_driver: DriverProcess, folder: str) -> dict[str, Any]:
    """The names of all ground shaking intensity models, as a JSON file; its path."""
    from openquake.hazardlib import gsim  # noqa: PLC0415 - imports all models

    return _written(folder, list(gsim.get_available_gsims()))


def ini_defaults(_driver: DriverProcess, folder: str) -> dict[str, Any]:
    """The parameters that have a default, by the names that job files have for them, as a JSON file."""
    found = {}
    for name in [*dir(OqParam), *OqParam.ALIASES]:
        param = getattr(OqParam, OqParam.ALIASES.get(name, name))
        if isinstance(param, valid.Param) and param.default is not valid.Param.NODEFAULT:
            is_number = isinstance(param.default, float)
            if not (is_number and math.isnan(param.default)):
                found[name] = param.default
    return _written(folder, found)


def _written(folder: str, value: Any) -> dict[str, Any]:
    path = Path(folder, "facts.json")
    path.write_text(json.dumps(value))
    return {"paths": [str(path)]}
