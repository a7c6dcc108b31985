"""Keys and certificates from one secret."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.settings import authkeys, config
from quakegrid.transport import certificates, credentials
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys

KEY = "0123456789abcdef-a-cluster-secret"
OTHER = "0123456789abcdef-another-secret"
NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


def ca_of(identity: credentials.Identity) -> x509.Certificate:
    """The CA certificate of an identity."""
    return x509.load_pem_x509_certificate(identity.ca_pem)


def leaf_of(identity: credentials.Identity) -> x509.Certificate:
    """The process's own certificate."""
    return x509.load_pem_x509_certificate(identity.certificate_pem)


def test_curve_keys_are_the_same_everywhere() -> None:
    """Two processes that hold the key derive the same pairs, all four different."""
    keys = lane_keys.curve_keys(KEY)

    assert keys == lane_keys.curve_keys(KEY)
    pieces = {keys.server_secret, keys.door.server_public, keys.door.client_public, keys.door.client_secret}
    assert len(pieces) == 4


def test_curve_keys_of_another_secret_differ() -> None:
    """Another cluster's keys share nothing with ours."""
    assert lane_keys.curve_keys(KEY).server_secret != lane_keys.curve_keys(OTHER).server_secret


def test_curve_public_keys_agree_with_zeromq() -> None:
    """Our Z85 and our point multiplication are those of libzmq."""
    keys = lane_keys.curve_keys(KEY)

    assert zmq.curve_public(keys.server_secret) == keys.door.server_public
    assert zmq.curve_public(keys.door.client_secret) == keys.door.client_public


def test_z85_encodes_the_rfcs_example() -> None:
    """RFC 32/Z85 gives this pair."""
    assert lane_keys.z85_encode(bytes.fromhex("864FD26FB559F75B")) == b"HelloWorld"


def test_certificates_made_apart_verify_each_other() -> None:
    """A certificate of one process verifies against the CA that another derived."""
    one, two = credentials.new_identity(KEY, NOW), credentials.new_identity(KEY, NOW)

    leaf_of(one).verify_directly_issued_by(ca_of(two))
    leaf_of(two).verify_directly_issued_by(ca_of(one))
    assert leaf_of(one).public_key() != leaf_of(two).public_key()


def test_certificate_of_another_secret_is_refused() -> None:
    """Who does not hold the key cannot sign for it."""
    with pytest.raises(InvalidSignature):
        leaf_of(credentials.new_identity(OTHER, NOW)).verify_directly_issued_by(
            ca_of(credentials.new_identity(KEY, NOW))
        )


def test_certificate_verifies_as_a_server_and_has_our_name() -> None:
    """A strict verifier accepts the leaf for the name that clients ask for."""
    identity = credentials.new_identity(KEY, NOW)
    leaf = leaf_of(identity)

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value

    assert names.get_values_for_type(x509.DNSName) == [principals.PEER_NAME, principals.ANY_NODE_NAME]
    assert not constraints.ca
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_certificate_is_renewed_before_it_ends() -> None:
    """Clocks may differ a day; renewal comes at half its life."""
    identity = credentials.new_identity(KEY, NOW)
    leaf = leaf_of(identity)

    assert leaf.not_valid_before_utc == NOW - certificates.CLOCK_SKEW
    half = datetime.timedelta(days=15)
    assert not identity.is_due(NOW)
    assert not identity.is_due(NOW + half - datetime.timedelta(seconds=1))
    assert identity.is_due(NOW + half)
    assert NOW + half < leaf.not_valid_after_utc


def test_certificate_is_renewed_when_the_clock_was_set_back() -> None:
    """It may begin in a future that others do not see for long."""
    identity = credentials.new_identity(KEY, NOW)

    assert identity.is_due(NOW - datetime.timedelta(seconds=1))


def test_new_authkey_is_long_and_random() -> None:
    """A made key is always strong enough to leave loopback."""
    first, second = authkeys.new_authkey(), authkeys.new_authkey()

    assert first != second
    assert len(first) >= config.MIN_AUTHKEY_LENGTH


def test_fingerprint_tells_keys_apart() -> None:
    """Same key, same text; and the key is not in it."""
    assert credentials.fingerprint(KEY) == credentials.fingerprint(KEY) != credentials.fingerprint(OTHER)
    assert credentials.fingerprint(KEY) not in KEY


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1"])
@pytest.mark.parametrize(
    ("authkey", "is_refused"),
    [("", True), ("short", True), ("fifteen-letters", True), ("sixteen-letters!", False)],
)
def test_service_does_not_start_with_a_weak_key(
    authkey: str, host: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On loopback as well, since others of the machine reach it; the message says the remedy."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "mine.cfg"
    path.write_text(f"[dbserver]\nhost = {host}\nauthkey = {authkey}\n")
    settings = config.load_settings(tmp_path, {"OQ_CONFIG_FILE": str(path)})

    if is_refused:
        with pytest.raises(errors.SettingsError, match="quakegrid authkey"):
            config.check_authkey(settings, "the broker")
    else:
        config.check_authkey(settings, "the broker")


def test_secrets_are_in_no_text_of_what_holds_them(tmp_path: Path) -> None:
    """A log line or a traceback may show any object."""
    authkey = authkeys.new_authkey()
    (tmp_path / "openquake.cfg").write_text(f"[dbserver]\nauthkey = {authkey}\n")
    settings = config.load_settings(tmp_path, {"HOME": str(tmp_path)})
    keys, identity = lane_keys.curve_keys(authkey), credentials.new_identity(authkey)

    said = f"{settings!r} {keys!r} {identity!r}"

    assert settings.authkey == authkey
    for secret in (authkey, keys.server_secret.decode(), keys.door.client_secret.decode(), "PRIVATE KEY"):
        assert secret not in said
