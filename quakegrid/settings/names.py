"""Finds misspelled names in `openquake.cfg`, which are refused or warned of. Pure.

Sections of QuakeGrid's own have only its keys, so any other key is refused. The other sections are also the
engine's, which may add keys: there only a name that is nearly one of ours leads to a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

OWN_SECTIONS = ("agent", "broker", "web")
# How alike two names must be so that one may be meant for the other. In sections that the engine shares more
# is asked: its old `receiver_host` is not meant for `receiver_ports`.
_NEAR_OWN, _NEAR_SHARED = 0.7, 0.85

Key = tuple[str, str]


def unknown_keys(found: Iterable[Key], known: Collection[Key]) -> Iterator[tuple[Key, str]]:
    """Keys of our own sections that we do not have, each with the key that is probably meant, or ""."""
    for section, name in found:
        if section in OWN_SECTIONS and (section, name) not in known:
            yield (
                (section, name),
                _nearest(name, [key for place, key in known if place == section], _NEAR_OWN),
            )


def doubtful_names(found: Iterable[Key], known: Collection[Key]) -> Iterator[str]:
    """Sentences on sections and keys that are nearly ours, and so have no effect."""
    found = list(found)
    sections = {section for section, _ in known}
    for section in dict.fromkeys(section for section, _ in found):
        if section not in sections and (near := _nearest(section, sections, _NEAR_SHARED)):
            yield f"[{section}] has no effect here; is [{near}] meant?"
    for section, name in found:
        if section in sections and section not in OWN_SECTIONS and (section, name) not in known:
            near = _nearest(name, [key for place, key in known if place == section], _NEAR_SHARED)
            if near:
                yield f"[{section}] {name} has no effect here; is {near} meant?"


def _nearest(name: str, choices: Iterable[str], alike: float) -> str:
    import difflib  # noqa: PLC0415 - every command line reads settings, and few names are wrong

    return next(iter(difflib.get_close_matches(name, sorted(choices), 1, alike)), "")
