"""Which libsodium encrypts what ZeroMQ sends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from quakegrid.transport import libsodium


def bindings(code: str) -> list[str]:
    """Where the loader finds the functions of a process that runs this code, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"LD_DEBUG": "bindings", "LD_BIND_NOW": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    return [line for line in done.stderr.splitlines() if "libzmq" in line.partition(" to ")[0]]


@pytest.mark.parametrize(
    "module", ["quakegrid", "quakegrid.transport.lane_sockets", "quakegrid.services.agent.template"]
)
def test_messages_are_encrypted_by_the_fast_library(module: str) -> None:
    """Whatever is imported first, both ways, also what the engine's own imports would load."""
    library = libsodium.find_library()
    assert library is not None

    lines = bindings(f"import {module}; import quakegrid.transport.fast_zmq; import zmq")

    for function in ("crypto_box_easy_afternm", "crypto_box_open_easy_afternm", "sodium_init"):
        found = [line for line in lines if f"`{function}'" in line]
        assert found, f"libzmq does not use {function}"
        assert all(str(library) in line.partition(" to ")[2] for line in found), found


@pytest.mark.parametrize(
    "code",
    [
        "import zmq; from quakegrid.transport import fast_zmq",
        "import sys; sys.modules['nacl'] = None; from quakegrid.transport import fast_zmq",
    ],
    ids=["pyzmq was first", "no PyNaCl"],
)
def test_without_the_fast_library_all_works(code: str) -> None:
    """Keys are made by pyzmq's own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(fast_zmq.IS_FAST, len(fast_zmq.zmq.curve_keypair()[0]))"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["False", "40"]
