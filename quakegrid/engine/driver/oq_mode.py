"""Mode "oq" of a driver: upstream's command line, except for commands that would harm a cluster."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from openquake.baselib import config
from openquake.calculators import export as engine_export

from quakegrid import errors
from quakegrid.engine import this_process
from quakegrid.engine.driver import exports, refusals
from quakegrid.settings import installation

# Who may control workers where root has installed the engine; it asks with `in`, as we do.
CONTROLLER = "openquake"


def main(argv: Sequence[str]) -> int:
    """Run a command of upstream's `oq`; returns the exit code.

    Args:
        argv: as after `oq`.
    """
    from openquake.commands.__main__ import oq  # noqa: PLC0415 - after the seams

    refusal = refusals.refusal(
        argv,
        is_installed=installation.NOTES.exists(),
        may_control=not config.multi_user or getpass.getuser() in CONTROLLER,
    )
    if refusal:
        print(f"quakegrid: {refusal}", file=sys.stderr)
        return errors.UsageError.exit_code
    if list(argv) == ["dbserver", "status"]:
        print(f"dbserver {_dbserver_status()}")
        return 0
    sys.argv = ["oq", *argv]
    try:
        oq()
    except errors.QuakeGridError as exc:
        print(f"quakegrid: {exc}", file=sys.stderr)
        return exc.exit_code
    return errors.EXIT_FAILED if exports.tell_failures(engine_export.export) else 0


def _dbserver_status() -> str:
    """Whether the dbserver of the cluster answers, in upstream's words.

    If root has installed the engine, upstream tells it to the user `openquake` only. It does not look at a
    dbserver on loopback.
    """
    from openquake.server import dbserver  # noqa: PLC0415 - after the seams

    settings = this_process.settings()
    return str(dbserver.get_status((settings.dbserver_host, settings.dbserver_port)))
