"""How a machine gets the certificate of a node with a token: for `agentctl join` and `agentctl serve`."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quakegrid import errors
from quakegrid.cli.views import render

TOKEN_VARIABLE = "QUAKEGRID_TOKEN"  # noqa: S105  a name
F = TypeVar("F", bound=Callable[..., Any])
LONGEST_INPUT = 10_000


def token_option(help_text: str) -> Callable[[F], F]:
    """Add the option `--token`; with "-" other users of the machine do not see the token."""
    return click.option(
        "--token", default="", metavar="TOKEN", envvar=TOKEN_VARIABLE, show_envvar=True, help=help_text
    )


def certify(state_dir: Path | None, token: str, *, name: str = "", master: str = "") -> None:
    """Get a certificate, and keep it in the state directory with the address of the broker.

    Args:
        state_dir: of the agent; None for the default.
        token: the text, or "-" to read it from stdin.
        name: what the node is to be called; empty: as the token says, else as this machine.
        master: how the master is reached from here; empty: as the token says.
    Raises:
        StateError: this machine has the authkey, or there is another node of this name.
        UsageError: the text is no token, or a name is not allowed.
        CredentialError: the token does not count, or the service at its address is of another cluster.
        PeerUnreachableError: the dbserver does not answer.
    """
    from quakegrid.clients import node_access  # noqa: PLC0415 - `agentctl --help` needs no gRPC
    from quakegrid.machine import node_state  # noqa: PLC0415 - as above
    from quakegrid.settings import config, node_files  # noqa: PLC0415 - as above

    if ":" in master:
        raise errors.UsageError(f"{master!r}: with a token, which has the ports, give the master's host only")
    settings = config.load_settings(state_dir)
    if settings.authkey:
        raise errors.StateError(
            f"this machine has the authkey, in {settings.authkey_path}, and needs no token; take it out "
            "there first, so that the node is known by its certificate"
        )
    text = sys.stdin.read(LONGEST_INPUT) if token == "-" else token  # noqa: S105  a dash
    file = node_access.join(text, name, master)
    path = node_files.write(settings.state_dir, file)
    node_state.change(settings.state_dir, master=file.broker)
    until = file.end_time.astimezone()
    render.say(f"this machine is the node {file.host} of {file.broker} until {until:%Y-%m-%d}")
    render.say(f"its certificate is in {path}, and is renewed by the agent")


def has_certificate(state_dir: Path | None) -> bool:
    """Whether the node has one that counts, so that it needs no token."""
    from quakegrid.settings import config, node_files  # noqa: PLC0415 - as above

    file = node_files.read(config.load_settings(state_dir).state_dir)
    if file is None:
        return False
    try:
        file.check(datetime.datetime.now(datetime.UTC))
    except errors.CredentialError:
        return False
    return True


def agent_runs(state_dir: Path | None) -> bool:
    """Whether the agent of this state directory runs. It takes a new certificate within seconds."""
    from quakegrid.machine import service_files  # noqa: PLC0415 - as above
    from quakegrid.settings import config  # noqa: PLC0415 - as above

    return service_files.read(config.load_settings(state_dir), "agent") is not None
