"""Hashes of passwords: argon2id for ours, and Django's pbkdf2_sha256 for those of an adopted database.

Runs in threads: a hash takes some hundredths of a second and 19 MB, outside of Python's lock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import argon2

_DJANGO = "pbkdf2_sha256"
# Django's own numbers grow with each release, to a million so far; a foreign file could name any.
_MOST_ITERATIONS = 5_000_000
# OWASP's numbers for argon2id (Password Storage Cheat Sheet).
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)
# Of no password: for a name that nobody has the same work is done.
NOBODY = _HASHER.hash("nobody has this password")


def make(password: str) -> str:
    """The hash of a new password."""
    return _HASHER.hash(password)


def is_right(password: str, expected: str) -> bool:
    """Whether a password has this hash; never for a hash of another kind."""
    if expected.startswith(f"{_DJANGO}$"):
        return _is_right_for_django(password, expected)
    try:
        return _HASHER.verify(expected, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def is_old(expected: str) -> bool:
    """Whether a right password is to be stored by another hash."""
    return expected.startswith(f"{_DJANGO}$") or _HASHER.check_needs_rehash(expected)


def _is_right_for_django(password: str, expected: str) -> bool:
    try:
        _, iterations, salt, digest = expected.split("$")
        count, known = int(iterations), base64.b64decode(digest, validate=True)
    except (ValueError, binascii.Error):
        return False
    if not 0 < count <= _MOST_ITERATIONS:
        return False
    made = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), count)
    return hmac.compare_digest(made, known)
