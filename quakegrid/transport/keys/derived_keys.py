"""One secret gives a key for each use: HKDF-SHA256 with a label of its own.

Does not depend on what the keys are for.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret: str, label: str, length: int = 32) -> bytes:
    """The key for a use; nobody finds the secret, or the key for another use, from it.

    Args:
        secret: the authkey of a cluster, or the lane secret of a broker.
        label: names the use.
        length: of the key, in bytes.
    """
    kdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=b"quakegrid/v1", info=label.encode())
    return kdf.derive(secret.encode())
