"""Start a template: load, report, fork. The agent alone runs `python -m quakegrid.services.agent.template`.

Arguments: the state directory, the descriptor of the control socket, and why nothing is preloaded (empty
if it shall).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import quakegrid.transport.fast_zmq  # noqa: F401  before the engine loads pyzmq
from quakegrid.machine import parent_death
from quakegrid.services.agent.linux import orphans
from quakegrid.services.agent.orders import LoadingFailed
from quakegrid.services.agent.packets import encode_report, send
from quakegrid.services.agent.template.fork_loop import CHILD_SIGNALS, ForkLoop, check_single_threaded
from quakegrid.services.agent.template.preload import one_line, preload
from quakegrid.settings.config import load_settings


def main() -> int:
    """Preload, report, fork until dismissed; returns the exit code."""
    parent_death.die_with_parent()
    control = socket.socket(fileno=int(sys.argv[2]))
    settings = load_settings(Path(sys.argv[1]))
    # These signals are for the agent, also if Ctrl-C or a scheduler sends them to all processes.
    for number in CHILD_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    wakeup, wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
    try:
        ready, run_driver = preload(settings, sys.argv[3])
        check_single_threaded()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the state that `status` shows
        traceback.print_exc()
        send(control, encode_report(LoadingFailed(one_line(exc))))
        return 1
    gc.collect()
    gc.freeze()  # garbage collections in the children do not touch the shared pages
    send(control, encode_report(ready))
    sys.stdout.flush()  # else children would print again what was printed while loading
    orphans.adopt_orphans()
    parent_death.die_with_parent(0)  # the loop notices the agent's end in time, and has children to end first
    ForkLoop(settings, control, (wakeup, wakeup_writer), run_driver).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
