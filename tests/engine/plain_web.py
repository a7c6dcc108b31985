"""The plain engine's own web server, after it has run a calculation: `plain_web.py JOB.ini HOST:PORT`.

Says which routes it has, as JSON, and "ready" when it is about to listen. The environment (HOME, OQ_DATADIR,
OQ_DISTRIBUTE) is the caller's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

# Before the line that has them.
ROUTES = "routes: "


def routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    """Patterns of all addresses, as Django has them."""
    for pattern in patterns:
        text = prefix + str(pattern.pattern)
        nested = getattr(pattern, "url_patterns", None)
        if nested is None:
            yield text
        else:
            yield from routes(nested, text)


def main() -> None:
    """Run the calculation, then serve until killed."""
    job_ini, address = sys.argv[1:]
    from openquake.commands import engine

    engine.main(run=[job_ini], log_level="warn")
    os.environ["DJANGO_SETTINGS_MODULE"] = "openquake.server.settings"
    import django
    from django.core.management import execute_from_command_line
    from django.urls import get_resolver

    django.setup()
    print(ROUTES + json.dumps(sorted(routes(get_resolver().url_patterns))), flush=True)
    print("ready", flush=True)
    execute_from_command_line(["manage", "runserver", "--noreload", address])


if __name__ == "__main__":
    main()
