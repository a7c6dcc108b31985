"""The keys of the web service's tokens change with the authkey."""

from __future__ import annotations

from quakegrid.access.proofs import ClusterKeys, Keyring
from quakegrid.transport.keys import web_token_keys

NEW, OLD = "a-new-key-of-a-cluster-that-nobody-guesses", "an-old-key-of-a-cluster-that-nobody-guesses"


def test_old_key_counts_for_its_time() -> None:
    """Sessions go on while the authkey changes, and end with the old one."""
    ring = Keyring(ClusterKeys(OLD))
    signed = web_token_keys.signing_key(OLD)
    assert web_token_keys.known_keys(ring, 0.0) == (signed,)

    ring.keys = ClusterKeys(NEW, OLD, old_until_s=100.0)

    assert web_token_keys.known_keys(ring, 99.0) == (web_token_keys.signing_key(NEW), signed)
    assert signed not in web_token_keys.known_keys(ring, 100.0)


def test_keys_tell_nothing_of_the_authkey() -> None:
    """Each is a key of its own."""
    assert web_token_keys.signing_key(NEW) != web_token_keys.signing_key(OLD)
    assert NEW.encode() not in web_token_keys.signing_key(NEW)
