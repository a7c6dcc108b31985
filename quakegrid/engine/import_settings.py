"""Settings of `openquake.cfg` that the engine reads when it is imported, as it then read them.

All others travel from the driver to its workers; these are frozen into a node's template, so they must agree.
"""

from __future__ import annotations

from openquake.commonlib import oqvalidation
from openquake.hazardlib.source import multi_fault


def read() -> dict[str, str]:
    """Their values, by section and key."""
    return {
        "[memory] max_multi_fault_ruptures": str(multi_fault.BLOCKSIZE),
        "[performance] pointsource_distance": str(oqvalidation.PSDIST),
    }
