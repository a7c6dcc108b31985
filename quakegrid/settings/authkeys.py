"""Authkeys: new ones, and which are no secrets, however long they are.

A stranger who reaches a port of a cluster can try some thousand keys a second on each core. So a key that
people make up is found. Reads no key itself; looks at the mode of the file that holds it, since who can
read a key can run programs on all nodes.
"""

from __future__ import annotations

import grp
import itertools
import math
import stat
from pathlib import Path

MIN_LENGTH = 16
# The value that upstream ships; it is no key.
NONE = frozenset({"", "changeme"})
_WORDS = (
    "changeme",
    "password",
    "passphrase",
    "openquake",
    "quakegrid",
    "authkey",
    "secret",
    "cluster",
    "qwertyuiop",
    "qwerty",
    "letmein",
    "administrator",
    "admin",
)
# A key that has fewer different characters, when words and sequences are taken out, is found soon unless the
# rest is long: one in 300 random keys of 16 digits has no more than five.
_MIN_CHARACTERS = 6
_MIN_BITS = 28
# Steps between the characters of a sequence; shorter ones may be chance.
_RUNS = (frozenset({0, 1}), frozenset({0, -1}))
_MIN_RUN = 4
_OPEN_TO_ALL = stat.S_IROTH | stat.S_IWOTH
_OPEN_TO_GROUP = stat.S_IRGRP | stat.S_IWGRP


def new_authkey() -> str:
    """A fresh random authkey of 256 bits, URL-safe text."""
    import secrets  # noqa: PLC0415 - takes 5 ms, and commands that make no key read settings, too

    return secrets.token_urlsafe(32)


def is_guessable(key: str) -> bool:
    """Whether a key is easy to find by trying: words of documents, sequences, repeated parts."""
    plain = key.lower()
    for word in _WORDS:
        plain = plain.replace(word, "")
    rest = _without_sequences(_unit(plain))
    count = len(set(rest))
    return count < _MIN_CHARACTERS and len(rest) * math.log2(count or 1) < _MIN_BITS


def is_weak(key: str) -> bool:
    """Whether a key is too short or guessable for a service: others of its machine can reach it."""
    return len(key) < MIN_LENGTH or is_guessable(key)


def doubts(authkey: str, path: Path | None) -> list[str]:
    """Sentences on a key that others of this machine can guess or read."""
    if path is None or not authkey:
        return []
    found = []
    if is_weak(authkey):
        found.append(
            f"the authkey in {path} can be guessed, and whoever does can run programs as this user, so no "
            "service starts with it; `quakegrid authkey` makes a better one"
        )
    if is_open_to_all(path):
        found.append(
            f"all users of this machine can read or change {path}, which holds the authkey, and so run "
            f"programs as this user; `chmod o= {path}`"
        )
    return found


def too_wide(path: Path, group_id: int) -> str:
    """Why a file that holds a key must not be used by a service, with the remedy; empty if it may.

    Args:
        path: of the file.
        group_id: the group of the service, which may read the file.
    """
    if is_open_to_all(path):
        return (
            f"all users of this machine can read or change {path}, which holds the authkey; "
            f"`chmod o= {path}`, and make a new key if they are not all trusted"
        )
    try:
        found = path.stat()
        is_open = found.st_mode & _OPEN_TO_GROUP and _is_reachable(path, found.st_gid)
    except OSError:
        return ""
    if not is_open or found.st_gid == group_id:
        return ""
    return (
        f"the group {_group_name(found.st_gid)} can read or change {path}, which holds the authkey; "
        f"`chmod g= {path}`, or `chgrp {_group_name(group_id)} {path}`"
    )


def is_open_to_all(path: Path) -> bool:
    """Whether every user of the machine can read or change a file; False if it is not there."""
    try:
        return bool(path.stat().st_mode & _OPEN_TO_ALL) and _is_reachable(path)
    except OSError:
        return False


def _is_reachable(path: Path, group_id: int = -1) -> bool:
    """Whether every user, or every member of a group, may enter all folders on the way to a file."""
    found = [folder.stat() for folder in path.resolve().parents]
    return all(
        each.st_mode & stat.S_IXOTH or (each.st_gid == group_id and each.st_mode & stat.S_IXGRP)
        for each in found
    )


def _group_name(group_id: int) -> str:
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)


def _unit(text: str) -> str:
    """The part that a text repeats, the last time perhaps not to its end; else the text."""
    for length in range(1, len(text) // 2 + 1):
        if (text[:length] * (len(text) // length + 1)).startswith(text):
            return text[:length]
    return text


def _without_sequences(text: str) -> str:
    """The text with runs such as 1234, edcba and aaaa cut to their first character."""
    kept, start = [], 0
    while start < len(text):
        kept.append(text[start])
        length = max(_run_length(text[start:], steps) for steps in _RUNS)
        start += length if length >= _MIN_RUN else 1
    return "".join(kept)


def _run_length(text: str, steps: frozenset[int]) -> int:
    """How many characters at the start of a text follow each from the one before by one of the steps."""
    followers = itertools.takewhile(
        lambda pair: ord(pair[1]) - ord(pair[0]) in steps, itertools.pairwise(text)
    )
    return 1 + sum(1 for _ in followers)
