"""A driver's certificate: given at the fork, and renewed while the driver lives."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping

from quakegrid import errors
from quakegrid.access.proofs import Certified, Renewed
from quakegrid.transport import certificates

# How often the clock, which may be set, is looked at. A try that failed is repeated then.
LOOK_S = 300.0


def read(proof: Mapping[str, str]) -> Renewed:
    """The certificate that came with a driver's request: `ca`, `key` and `certificate`, PEM."""
    return Renewed(Certified(proof["ca"].encode(), proof["key"].encode(), proof["certificate"].encode()))


class CertificateKeeper:
    """Renews a certificate when half of a driver's life is over, in a thread of its own.

    A certificate that is given for less time is for one command, and is not renewed.

    Args:
        given: the certificate, which is replaced.
        renew: asks the dbserver for another one.
        look_s: how often the clock is looked at.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        given: Renewed,
        renew: Callable[[], Certified],
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._given, self._renew, self._look_s, self._clock = given, renew, look_s, clock
        self._until_s = certificates.until_s(given.certified.certificate_pem)
        self._closing = threading.Event()
        if not self._is_due():
            threading.Thread(target=self._run, name="certificate", daemon=True).start()

    def close(self) -> None:
        """Renew no more."""
        self._closing.set()

    def _is_due(self) -> bool:
        return self._until_s - self._clock() < certificates.DRIVER_LIFE.total_seconds() / 2

    def _run(self) -> None:
        while not self._closing.wait(self._look_s):
            if self._is_due():
                self._replace()

    def _replace(self) -> None:
        try:
            self._given.certified = self._renew()
        except (errors.QuakeGridError, ValueError) as exc:  # the latter: the connection was closed under us
            if not self._closing.is_set():
                print(f"the certificate of this calculation was not renewed: {exc}", file=sys.stderr)
        else:
            self._until_s = certificates.until_s(self._given.certified.certificate_pem)
