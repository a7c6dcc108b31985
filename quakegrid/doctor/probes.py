"""Looks that may take long, each in a thread of its own: ports, folders, names.

The caller waits a limited time, even if a file server is dead or a firewall drops packets.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quakegrid.access import principals
from quakegrid.access.proofs import Proof
from quakegrid.doctor.facts import DiskFacts, NameFacts, PortFacts, PortState
from quakegrid.transport import certificates, credentials

CONNECT_TIMEOUT_S = 2.0
# Longer than the time to connect: a look that takes longer has a fault.
PROBE_TIMEOUT_S = 3.0
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED of OpenSSL


class Probes:
    """Runs looks side by side and does not wait for those that hang.

    A look that still hangs from an earlier time is not begun again, so that they do not pile up.
    """

    def __init__(self, timeout_s: float = PROBE_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._hanging: set[str] = set()

    def run(self, probes: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
        """What each returned, by name, and the names of those that did not answer in time.

        Raises:
            Exception: what a look raised.
        """
        answers: queue.SimpleQueue[tuple[str, Any, BaseException | None]] = queue.SimpleQueue()

        def look(name: str, probe: Callable[[], Any]) -> None:
            try:
                answers.put((name, probe(), None))
            except BaseException as exc:  # noqa: BLE001 - raised where the answers are read
                answers.put((name, None, exc))
            self._hanging.discard(name)

        begun = [name for name in probes if name not in self._hanging]
        for name in begun:
            self._hanging.add(name)
            threading.Thread(target=look, args=(name, probes[name]), daemon=True).start()
        found: dict[str, Any] = {}
        deadline_s = time.monotonic() + self._timeout_s
        with contextlib.suppress(queue.Empty):
            while len(found) < len(begun):
                name, answer, error = answers.get(timeout=max(deadline_s - time.monotonic(), 0))
                if error is not None:
                    raise error
                found[name] = answer
        return found, [name for name in probes if name not in found]


def look_at_port(port: PortFacts, proof: Proof | None) -> PortState:
    """Connect to a port; with a proof also see whether a service of the same cluster answers there."""
    try:
        with socket.create_connection((port.host, port.number), CONNECT_TIMEOUT_S) as connection:
            state = PortState.OPEN if proof is None else _shake_hands(connection, proof, _name(port))
        if state is PortState.OTHER_KEY and not _is_of_a_cluster(port):
            return PortState.FOREIGN
    except ConnectionRefusedError:
        return PortState.REFUSED
    except (socket.gaierror, UnicodeError):
        return PortState.UNRESOLVED
    except OSError:  # no answer in time, no way there
        return PortState.SILENT
    return state


def signer_at(port: PortFacts, proof: Proof) -> bytes:
    """By which key the certificate of a service of our cluster is signed; empty if none answers.

    Args:
        port: of the service.
        proof: what we are.
    """
    address = (port.host, port.number)
    try:
        with (
            socket.create_connection(address, CONNECT_TIMEOUT_S) as connection,
            _tls(proof).wrap_socket(connection, server_hostname=_name(port)) as peer,
        ):
            return certificates.signer_of(peer.getpeercert(binary_form=True) or b"")
    except (OSError, UnicodeError, ValueError):
        return b""


def _name(port: PortFacts) -> str:
    """The name that the certificate at a port must have."""
    is_agent = port.service == "agent"
    return principals.node_dns_name(port.node or port.host) if is_agent else principals.PEER_NAME


def _shake_hands(connection: socket.socket, proof: Proof, name: str) -> PortState:
    """Tell by the peer's certificate whether it is of our cluster, and the service that we mean."""
    try:
        with _tls(proof).wrap_socket(connection, server_hostname=name):
            return PortState.OPEN
    except ssl.SSLCertVerificationError as exc:
        is_clock = exc.verify_code in (_NOT_YET_VALID, _EXPIRED)
        return PortState.OTHER_CLOCK if is_clock else PortState.OTHER_KEY
    except TimeoutError:  # it accepts and says nothing: stopped, or no TLS
        return PortState.SILENT
    except OSError:
        return PortState.FOREIGN


def _is_of_a_cluster(port: PortFacts) -> bool:
    """Whether the certificate that we do not trust is a QuakeGrid cluster's; nothing is sent there."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((port.host, port.number), CONNECT_TIMEOUT_S) as connection,
        context.wrap_socket(connection) as stranger,
    ):
        return certificates.is_of_a_cluster(stranger.getpeercert(binary_form=True) or b"")


def _tls(proof: Proof) -> ssl.SSLContext:
    identity = credentials.identity_of(proof, datetime.datetime.now(datetime.UTC))
    context = ssl.create_default_context(cadata=identity.ca_pem.decode())
    context.set_alpn_protocols(["h2"])  # as gRPC
    # The interface wants a path, and no key shall lie on a disk.
    pair = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(pair, identity.key_pem + identity.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{pair}")
    finally:
        os.close(pair)
    return context


def look_at_disk(role: str, path: str) -> DiskFacts:
    """Room in a folder, or in the nearest one above it that exists."""
    try:
        if role in ("shared_dir", "shared memory"):  # nobody makes these
            found = os.statvfs(path)
        else:
            place = Path(path)
            while not place.exists() and place != place.parent:
                place = place.parent
            found = os.statvfs(place)
            if not os.access(place, os.W_OK | os.X_OK):
                return DiskFacts(role, path, error=f"no permission to write to {place}")
    except OSError as exc:
        return DiskFacts(role, path, error=exc.strerror or str(exc))
    kind = file_system(path, Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))
    room = (found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)
    return DiskFacts(role, path, *room, file_system=kind)


def file_system(path: str, mounts: str) -> str:
    """The kind of file system that a path is on.

    Args:
        path: absolute.
        mounts: text of /proc/mounts; of two mounts at one place the later counts.
    Returns:
        Such as "ext4"; empty if no mount has the path.
    """
    found = ("", "")
    for line in mounts.splitlines():
        _source, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if Path(path).is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    return found[1]


def look_up(name: str, setting: str) -> NameFacts:
    """Addresses of a host name; none if it is unknown."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter: no name can look like that
        return NameFacts(name, setting)
    return NameFacts(name, setting, tuple(sorted({str(address[0]) for *_, address in found})))
