"""Which authkeys are no secrets, however long they are.

Whoever reaches a port of a cluster can try keys without asking anybody, some thousand a second on each core.
So a key that people think of is found. Reads no key itself; looks at the mode of the file that holds it.
"""

from __future__ import annotations

import itertools
import stat
from pathlib import Path

MIN_LENGTH = 16
# What upstream ships, which is none.
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
# Fewer different characters, with words and sequences taken out, are found soon.
_MIN_CHARACTERS = 6


def is_guessable(key: str) -> bool:
    """Whether somebody who tries would find the key: words of documents, sequences, repeated parts."""
    plain = key.lower()
    for word in _WORDS:
        plain = plain.replace(word, "")
    return len(set(_without_sequences(_unit(plain)))) < _MIN_CHARACTERS


def is_weak(key: str) -> bool:
    """Whether a key is too short or guessable for services that others can reach."""
    return len(key) < MIN_LENGTH or is_guessable(key)


def doubts(authkey: str, path: Path | None) -> list[str]:
    """Sentences on a key that others of this machine can guess or read."""
    if path is None or not authkey:
        return []
    found = []
    if is_weak(authkey):
        found.append(
            f"the authkey in {path} can be guessed, and whoever does can run programs as this user; "
            "`quakegrid authkey` makes a better one"
        )
    try:
        is_open = bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        is_open = False
    if is_open:
        found.append(
            f"all users of this machine can read the authkey in {path}, and so run programs as this user; "
            f"`chmod o-r {path}`"
        )
    return found


def _unit(text: str) -> str:
    """The part that a text repeats, the last time perhaps not to its end; else the text."""
    for length in range(1, len(text) // 2 + 1):
        if (text[:length] * (len(text) // length + 1)).startswith(text):
            return text[:length]
    return text


def _without_sequences(text: str) -> str:
    """The text without characters that follow from the one before, as in 1234, edcba and aaaa."""
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(text)]
    kept = [text[index + 1] for index, step in enumerate(steps) if abs(step) > 1]
    return text[:1] + "".join(kept)
