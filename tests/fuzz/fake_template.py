#!/usr/bin/env python3
"""In place of the Python that an agent starts its template with: gives the template's socket to the fuzzer.

Whatever else an agent starts with its Python is started with the real one. It lives as long as the fuzzer
keeps its connection, unless the agent kills it.
"""

from __future__ import annotations

import os
import socket
import sys

TEMPLATE = "quakegrid.services.agent.template"


def main() -> None:
    """Hand the socket over and wait for the end."""
    if TEMPLATE not in sys.argv:
        python = os.environ["FUZZ_PYTHON"]
        os.execv(python, [python, *sys.argv[1:]])
    control = int(sys.argv[sys.argv.index(TEMPLATE) + 2])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as fuzzer:
        fuzzer.connect(os.environ["FUZZ_SOCKET"])
        socket.send_fds(fuzzer, [str(os.getpid()).encode()], [control])
        os.close(control)
        fuzzer.recv(1)  # until the fuzzer has gone; the agent may kill us before


if __name__ == "__main__":
    main()
