"""Lists the inputs of job files as the plain engine does: `plain_inputs.py FOLDER`, JSON on stdout."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

from openquake.commonlib import readinput


def main(folder: Path) -> None:
    """Job file to its inputs; those that cannot be listed without their hazard are left out."""
    warnings.simplefilter("ignore")
    found = {}
    for job_ini in sorted(folder.rglob("job*.ini")):
        try:
            paths = readinput.get_input_files(readinput.get_oqparam(str(job_ini)))
        except Exception:  # noqa: BLE001 - such as one that wants an earlier calculation
            continue
        found[str(job_ini)] = sorted({os.path.normpath(path) for path in paths if Path(path).is_file()})
    print(json.dumps(found))


main(Path(sys.argv[1]))
