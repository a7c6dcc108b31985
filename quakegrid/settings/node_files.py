"""The file with the certificate of this node, in the state directory of its agent; nobody else may read it.

`agentctl join --token` writes it, and the agent does when it renews the certificate. Asks no service.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.proofs import Certified
from quakegrid.settings import credential_files

FILE_NAME = "node_credential.json"
_VERSION = 1
_TEXTS = ("host", "machine", "dbserver", "broker", "ca", "certificate", "key")
_JOIN = "`agentctl join --token TOKEN` gets a new certificate; an admin makes the token"


@dataclass(frozen=True, slots=True)
class NodeFile:
    """The certificate of a node.

    Args:
        host: what the fleet calls the node.
        dbserver: `host:port`.
        broker: `host:port`.
        start_time: from when on the certificate counts.
        end_time: until when.
        proof: the key and the certificate.
        machine: the name of the machine that got it.
    """

    host: str
    dbserver: str
    broker: str
    start_time: datetime.datetime
    end_time: datetime.datetime
    proof: Certified
    machine: str

    @property
    def renewal_time(self) -> datetime.datetime:
        """When half of its life is over."""
        return self.start_time + (self.end_time - self.start_time) / 2

    def check(self, now_time: datetime.datetime) -> None:
        """Refuse a certificate that has ended, or that was copied from another machine.

        Two machines with one certificate would take the place of each other in the fleet.

        Raises:
            CredentialError: it has, or was.
        """
        if now_time >= self.end_time:
            raise errors.CredentialError(
                f"the certificate of the node {self.host} ended on {self.end_time:%Y-%m-%d}; {_JOIN}"
            )
        if self.machine != socket.gethostname():
            raise errors.CredentialError(
                f"the certificate of the node {self.host} is of the machine {self.machine}, and this one is "
                f"called {socket.gethostname()}; {_JOIN}"
            )


def path_of(state_dir: Path) -> Path:
    """Where the file is."""
    return state_dir / FILE_NAME


def read(state_dir: Path) -> NodeFile | None:
    """Read the file; None if there is none.

    Root reads that of the agent's user, too, such as at the end of an installation.

    Raises:
        CredentialError: others can read it, or it is damaged.
    """
    path = path_of(state_dir)
    try:
        if not os.path.lexists(path):
            return None
        owner = state_dir.stat().st_uid if os.geteuid() == 0 else None
        return decode(credential_files.read_private(path, owner), path)
    except PermissionError:
        raise errors.CredentialError(f"{path} is not for this user; run the command as the agent's") from None


def decode(content: bytes, path: Path) -> NodeFile:
    """The certificate in a file's content.

    Raises:
        CredentialError: it is damaged.
    """
    try:
        return _decode(json.loads(content))
    except (ValueError, TypeError, KeyError):
        raise errors.CredentialError(f"{path} is damaged; {_JOIN}") from None


def write(state_dir: Path, found: NodeFile) -> Path:
    """Write the file, in the place of an earlier one, as a whole or not at all."""
    document = {
        "quakegrid_node": _VERSION,
        "host": found.host,
        "machine": found.machine,
        "dbserver": found.dbserver,
        "broker": found.broker,
        "start_time": found.start_time.astimezone(datetime.UTC).isoformat(),
        "end_time": found.end_time.astimezone(datetime.UTC).isoformat(),
        "ca": found.proof.ca_pem.decode(),
        "certificate": found.proof.certificate_pem.decode(),
        "key": found.proof.key_pem.decode(),
    }
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = path_of(state_dir)
    fresh = state_dir / f".{FILE_NAME}.{os.getpid()}.new"
    fresh.unlink(missing_ok=True)
    try:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(document, indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _decode(document: Mapping[str, Any]) -> NodeFile:
    if document["quakegrid_node"] != _VERSION:
        raise ValueError(document)
    texts = {name: document[name] for name in _TEXTS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError(document)
    times = [datetime.datetime.fromisoformat(document[name]) for name in ("start_time", "end_time")]
    if not principals.is_name(texts["host"]) or any(each.tzinfo is None for each in times):
        raise ValueError(document)
    for name in ("dbserver", "broker"):
        credential_files.split_address(texts[name])
    return NodeFile(
        host=texts["host"],
        dbserver=texts["dbserver"],
        broker=texts["broker"],
        start_time=times[0],
        end_time=times[1],
        proof=Certified(texts["ca"].encode(), texts["key"].encode(), texts["certificate"].encode()),
        machine=texts["machine"],
    )
