"""The settings that count on this machine, each with its file; and all mistakes, not only the first one.

Asks the functions of `sections.py`, as `config.py` and `reference.py` do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from quakegrid import errors
from quakegrid.settings import names, reference, sections
from quakegrid.settings.reader import Reader

T = TypeVar("T")
DEFAULT = "default"
# Whose values are not shown. The path of a URL is often what lets somebody write there: chat services do so.
# A command may have such a URL, a password or a token among its words.
_SECRET = frozenset(
    {("dbserver", "authkey"), ("dbserver", "old_authkey"), ("notify", "command"), ("notify", "url")}
)
HIDDEN = "(set, not shown)"


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting as it counts.

    Args:
        section: of `openquake.cfg`.
        name: of the key.
        value: as text; empty for none. Secrets are not shown.
        source: the file that gives it, or "default".
        meaning: for people.
    """

    section: str
    name: str
    value: str
    source: str
    meaning: str

    @property
    def is_default(self) -> bool:
        """Whether no file gives it."""
        return self.source == DEFAULT


class _Collector(Reader):
    """Goes on after a value that is not allowed, and keeps what it would have said."""

    def __init__(self, state_dir: Path, paths: list[Path]) -> None:
        super().__init__(state_dir, paths)
        self.troubles: list[str] = []

    def parse(self, section: str, key: str, default: T, convert: Callable[[str], T], allowed: str) -> T:
        try:
            return super().parse(section, key, default, convert, allowed)
        except errors.SettingsError as exc:
            self.troubles.append(str(exc))
            return default


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """All settings and what is wrong with them.

    Args:
        settings: in the order of the reference.
        files: that were read; the last one wins.
        errors: why QuakeGrid would not start with them.
        warnings: names that have no effect, and are nearly ours.
    """

    settings: list[EffectiveSetting]
    files: list[Path]
    errors: list[str]
    warnings: list[str]


def read(state_dir: Path, paths: list[Path]) -> EffectiveConfig:
    """Read files as the services do.

    Args:
        state_dir: of the cluster.
        paths: the files, the last one wins.
    Raises:
        SettingsError: a file cannot be read, or is no configuration file.
    """
    reader = _Collector(state_dir, paths)
    sections.read_all(reader)
    for (section, key), near in names.unknown_keys(reader.values, reader.asked):
        meant = f"; is {near} meant?" if near else "; take it out"
        reader.troubles.append(f"{reader.values[section, key][1]}: [{section}] has no key {key}{meant}")
    warnings = list(names.doubtful_names(reader.values, reader.asked))
    found = [_setting(reader, key) for key in reference.known_keys()]
    return EffectiveConfig(found, reader.found, reader.troubles, warnings)


def _setting(reader: Reader, key: reference.Key) -> EffectiveSetting:
    place = (key.section, key.name)
    value, path = reader.values.get(place, ("", None))
    if place in _SECRET and value:
        value = HIDDEN
    meaning = reference.MEANINGS.get(place, "")
    if value and path is not None:
        return EffectiveSetting(*place, value, str(path), meaning)
    return EffectiveSetting(*place, key.default, DEFAULT, meaning)
