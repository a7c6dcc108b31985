"""`python -m quakegrid.engine.checks JSON`: checks a calculation in a process of its own, without a cluster.

`quakegrid check` starts it where no agent runs. Prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def main() -> None:
    """Check the job file that the argument names; see `job_check.check`."""
    from quakegrid.engine.checks import job_check  # noqa: PLC0415 - imports the engine
    from quakegrid.engine.web import memory_bound  # noqa: PLC0415

    memory_bound.set_here()
    asked = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()):  # what the engine prints is no part of the answer
        found = job_check.check(asked["job_ini"], asked["params"], asked["parent_id"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
