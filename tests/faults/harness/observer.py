"""Looks at a cluster from its master, several times a second: one line of numbers for each look.

Usage: `python -m tests.faults.harness.observer STATE_DIR`. A line is the monotonic time, and the tasks
done so far by all sessions that the broker knows of, -1 while it does not answer.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.settings import config

INTERVAL_S = 0.2


def main() -> None:
    """Look until we are killed."""
    settings = config.load_settings(Path(sys.argv[1]))
    while True:
        with BrokerClient(settings) as broker:
            try:
                while True:
                    done = sum(session.done_count for session in broker.status().sessions)
                    print(time.monotonic(), done, flush=True)
                    time.sleep(INTERVAL_S)
            except errors.QuakeGridError:
                print(time.monotonic(), -1, flush=True)
                time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main()
