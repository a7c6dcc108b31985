"""Keys that sign the tokens and cookies of the web service, from the cluster's authkey."""

from __future__ import annotations

import functools

from quakegrid.access.proofs import KeyProof, keys_of
from quakegrid.transport.keys.derived_keys import derive


@functools.lru_cache(maxsize=4)
def signing_key(authkey: str) -> bytes:
    """The key that signs tokens of a cluster with this authkey."""
    return derive(authkey, "web-tokens")


def known_keys(proof: KeyProof, now_s: float) -> tuple[bytes, ...]:
    """The keys by which tokens are known: the one that signs, and the one before while that counts.

    Args:
        proof: the cluster's secret.
        now_s: seconds since 1970.
    """
    keys = keys_of(proof)
    known = (keys.active, keys.old) if keys.has_old(now_s) else (keys.active,)
    return tuple(map(signing_key, known))
