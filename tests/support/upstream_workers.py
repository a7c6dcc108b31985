"""Prints what upstream's own `oq workers` prints, with a real pool; run as a program of its own."""

from __future__ import annotations

import sys
import time

# Never `kill`: it would reach the pools of others.
VERBS = ("start", "wait", "status", "start", "restart", "stop", "status")


def main() -> None:
    """Call upstream's command with each verb, after a line that names it."""
    from openquake.baselib import config, general, workerpool
    from openquake.commands import workers

    try:
        for verb in VERBS:
            print(f"# {verb}")
            workers.main(verb)
            sys.stdout.flush()
            while verb == "stop" and general.socket_ready(("127.0.0.1", int(config.zworkers.ctrl_port))):
                time.sleep(0.05)  # a pool that ends still accepts, and does not answer
    finally:
        workerpool.WorkerMaster(config.zworkers).stop()


if __name__ == "__main__":
    main()
