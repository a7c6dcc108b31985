"""The plain engine's own web server, after it has run a calculation: `plain_web.py JOB.ini HOST:PORT`.

Says "ready" when it is about to listen. The environment (HOME, OQ_DATADIR, OQ_DISTRIBUTE) is the caller's.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the calculation, then serve until killed."""
    job_ini, address = sys.argv[1:]
    from openquake.commands import engine

    engine.main(run=[job_ini], log_level="warn")
    os.environ["DJANGO_SETTINGS_MODULE"] = "openquake.server.settings"
    from django.core.management import execute_from_command_line

    print("ready", flush=True)
    execute_from_command_line(["manage", "runserver", "--noreload", address])


if __name__ == "__main__":
    main()
