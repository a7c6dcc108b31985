"""The certificate of the web service: the site's, or one of the cluster's own authority, which renews itself.

Connections that begin get the newest one; those that are open keep theirs.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from cryptography.x509 import load_pem_x509_certificates as load_certificates

from quakegrid import errors
from quakegrid.access.proofs import Certified, Keyring
from quakegrid.services.web import guard
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials

LIFE = datetime.timedelta(days=30)
LOOK_EVERY_S = 10.0
# As for credentials of people.
SOON_S = 14 * 86400.0
log = logging.getLogger("quakegrid.web")


@dataclass(frozen=True, slots=True)
class CertificateEnd:
    """Until when a certificate counts.

    Args:
        what: it is of.
        end_s: seconds since 1970; None if it does not end by itself.
        is_renewed: whether this service makes another one in time.
    """

    what: str
    end_s: float | None
    is_renewed: bool

    def as_json(self, now_s: float) -> dict[str, Any]:
        """As pages get it; `is_soon` if somebody should see to another one."""
        is_soon = self.end_s is not None and not self.is_renewed and self.end_s - now_s < SOON_S
        return {"what": self.what, "end_s": self.end_s, "is_renewed": self.is_renewed, "is_soon": is_soon}


class TlsDoor:
    """What connections need to speak TLS.

    Args:
        settings: of the cluster.
    Raises:
        SettingsError: the site's certificate or its key cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._proof = settings, settings.keyring or Keyring(None)  # type: ignore[arg-type]
        self._seen: object = None
        self._ends: list[CertificateEnd] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._load()

    @property
    def ends(self) -> list[CertificateEnd]:
        """When the certificate that new connections get ends, and those that lead to its authority."""
        return list(self._ends)

    async def keep_fresh(self) -> None:
        """Take each new certificate, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await asyncio.to_thread(self._load)
            except errors.SettingsError as exc:  # files are written one after the other
                log.warning("certificate_not_loaded reason=%s", exc)

    def _load(self) -> None:
        """Load the certificate if there is another one, or has to be."""
        access = self._settings.web_access
        if access.certificate:
            self._load_site(Path(access.certificate), Path(access.private_key))
        else:
            self._load_own()

    def _load_site(self, certificate: Path, key: Path) -> None:
        try:
            seen = tuple(each.stat().st_mtime_ns for each in (certificate, key))
            if seen == self._seen:
                return
            self.context.load_cert_chain(certificate, key, password=_no_password)
            own, *above = (each.not_valid_after_utc for each in load_certificates(certificate.read_bytes()))
        except (OSError, ValueError) as exc:  # a wrong key is an error of ssl, and so of the system
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise errors.SettingsError(
                f"the certificate of the web service cannot be used: {reason or exc}; the files of [web] "
                "certificate (PEM, with those that lead to its authority) and private_key (without a "
                "password) have to belong together, and the service has to be able to read them"
            ) from exc
        self._seen = seen
        self._ends = [CertificateEnd("web service", own.timestamp(), is_renewed=False)]
        if above:
            self._ends.append(CertificateEnd("authority", min(above).timestamp(), is_renewed=False))
        log.info("certificate_loaded file=%s", certificate)

    def _load_own(self) -> None:
        now_time = datetime.datetime.now(datetime.UTC)
        keys, names = self._proof.keys, certificate_names(self._settings)
        match self._seen:
            case (seen_keys, seen_names, datetime.datetime() as made_time) if (
                seen_keys is keys and seen_names == names and made_time <= now_time < made_time + LIFE / 2
            ):
                return
        authority = credentials.authority_of(keys)
        made = authority.certify_web(names, now_time, now_time + LIFE)
        load_pem(self.context, made)
        self._seen = (keys, names, now_time)
        own = CertificateEnd("web service", (now_time + LIFE).timestamp(), is_renewed=True)
        # The authority is made of the authkey, and counts as long as that does.
        self._ends = [own, CertificateEnd("authority", None, is_renewed=False)]
        if (until_s := self._settings.old_authkey_until_s) > now_time.timestamp():
            self._ends.append(CertificateEnd("authority of the authkey before", until_s, is_renewed=False))
        log.info("certificate_made names=%s", ",".join(names))


def load_pem(context: ssl.SSLContext, made: Certified) -> None:
    """Load a certificate from memory; its key is in no file of a disk."""
    number = os.memfd_create("quakegrid-web")
    try:
        with os.fdopen(os.dup(number), "wb") as file:
            file.write(made.key_pem + made.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{number}")
    finally:
        os.close(number)


def certificate_names(settings: Settings) -> tuple[str, ...]:
    """The names and addresses by which people reach this machine."""
    names = {name.strip("[]").lower() for name in guard.own_names(settings)}
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            address = each.address.partition("%")[0]
            if each.family.name in ("AF_INET", "AF_INET6") and _is_reached(address):
                names.add(address)
    return tuple(sorted(names - {"0.0.0.0", "::"}))  # noqa: S104 - compared, not bound


def _is_reached(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return not (found.is_loopback or found.is_link_local)


def _no_password() -> str:
    """So that nobody is asked at a terminal."""
    return ""
