"""Keeps the certificate of this node valid: renews it at half of its life, or when the authkey changes.

`agentctl join --token` may put another certificate there while the agent runs: it counts within seconds. Runs
in the agent's event loop; files and the dbserver are asked in threads.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable

from quakegrid import errors
from quakegrid.access.proofs import Renewed
from quakegrid.clients import node_access
from quakegrid.doctor import probes
from quakegrid.doctor.facts import PortFacts
from quakegrid.machine.service_life import Life
from quakegrid.settings import credential_files, node_files
from quakegrid.settings.config import Settings
from quakegrid.settings.node_files import NodeFile
from quakegrid.transport import certificates

log = logging.getLogger("quakegrid.agent")
LOOK_S = 2.0
# After a renewal that failed: there are two weeks for it.
RETRY_S = 300.0
# How often the dbserver's certificate is looked at, which tells that the authkey was changed.
KEY_LOOK = datetime.timedelta(seconds=600)


def utc_now() -> datetime.datetime:
    """The time of day, aware."""
    return datetime.datetime.now(datetime.UTC)


def keep_valid(settings: Settings, life: Life) -> None:
    """Look after the certificate of this node as long as the agent runs, if it has one."""
    if settings.given is not None:
        life.keep(NodeCertificate(settings, settings.given).run(), "node certificate")


class NodeCertificate:
    """The certificate of this node.

    Args:
        settings: of the node; the proof there is what the agent shows to others.
        proof: is given each newer certificate.
        now: the time of day.
    """

    def __init__(
        self, settings: Settings, proof: Renewed, now: Callable[[], datetime.datetime] = utc_now
    ) -> None:
        self._settings, self._proof, self._now = settings, proof, now
        self._retry_time: datetime.datetime | None = None
        self._key_look_time: datetime.datetime | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Look after the certificate; does not return."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take a newer certificate from the file, or renew the one that is there if it is time."""
        try:
            file = await asyncio.to_thread(node_files.read, self._settings.state_dir)
        except (errors.CredentialError, OSError) as exc:
            self._tell("node_certificate_unreadable", str(exc))
            return
        if file is None:
            return
        self._take(file)
        if file.end_time <= self._now():
            self._tell("node_certificate_ended", _reason(file, self._now()))
        elif self._retry_time and self._now() < self._retry_time:
            return
        elif file.renewal_time <= self._now() or await self._is_of_old_key(file):
            await self._renew(file)

    async def _is_of_old_key(self, file: NodeFile) -> bool:
        """Now and then: whether the dbserver signs by another key than the one that signed for us."""
        if self._key_look_time and self._now() < self._key_look_time:
            return False
        self._key_look_time = self._now() + KEY_LOOK
        port = PortFacts("dbserver", *credential_files.split_address(file.dbserver))
        signer = await asyncio.to_thread(probes.signer_at, port, self._proof)
        own = certificates.signer_of(certificates.certificate_bytes(file.proof.certificate_pem))
        return signer not in (b"", own)

    async def _renew(self, file: NodeFile) -> None:
        self._retry_time = self._now() + datetime.timedelta(seconds=RETRY_S)
        try:
            fresh = await asyncio.to_thread(node_access.renew, file, self._proof)
            await asyncio.to_thread(node_files.write, self._settings.state_dir, fresh)
        except (errors.QuakeGridError, OSError) as exc:
            self._tell("node_certificate_not_renewed", str(exc))
            return
        log.info("node_certificate_renewed host=%s until=%s", fresh.host, fresh.end_time.isoformat())
        self._take(fresh)

    def _take(self, file: NodeFile) -> None:
        """Show this certificate from now on, if it is another one."""
        if file.proof == self._proof.certified:
            return
        if file.host != self._settings.node_name:
            self._tell("node_renamed", f"the certificate is of {file.host}; restart the agent")
            return
        self._proof.certified = file.proof
        self._retry_time, self._trouble = None, ""

    def _tell(self, event: str, reason: str) -> None:
        if reason != self._trouble:  # each reason once
            log.warning("%s reason=%s", event, reason)
        self._trouble = reason


def _reason(file: NodeFile, now_time: datetime.datetime) -> str:
    try:
        file.check(now_time)
    except errors.CredentialError as exc:
        return str(exc)
    return ""
