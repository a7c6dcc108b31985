"""Reads `openquake.cfg`: the files that exist are merged, and each value remembers its file.

Knows no section and no key. It never executes anything from a file (upstream passes a key named `code` to
`exec`; here it is an unknown key like any other).
"""

from __future__ import annotations

import configparser
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from quakegrid.errors import SettingsError
from quakegrid.settings import authkeys, conversions, installation, names

T = TypeVar("T")


class Reader:
    """Merged files, remembering which file gave each value, so that errors can name it.

    Args:
        state_dir: of the cluster.
        paths: the files, the last one wins.
        leaves_out_closed: whether files that this user may not read are left out; else they are an error.
    """

    def __init__(self, state_dir: Path, paths: list[Path], *, leaves_out_closed: bool = False) -> None:
        self._state_dir, self._leaves_out_closed = state_dir, leaves_out_closed
        self.found: list[Path] = []
        self.values: dict[tuple[str, str], tuple[str, Path]] = {}
        self.asked: set[tuple[str, str]] = set()
        for path in paths:
            self._read(path)

    def _read(self, path: Path) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as exc:
            if self._leaves_out_closed and isinstance(exc, PermissionError):
                return
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise SettingsError(f"cannot read {path}: {reason}; {_how_to_read(exc)}") from exc
        try:
            parser.read_string(text, source=str(path))
        except configparser.Error as exc:
            raise invalid(path, exc) from None
        self.found.append(path)
        for section in parser.sections():
            for key, value in parser.items(section):
                if key == "authkey" and value.strip() in authkeys.NONE:
                    continue  # upstream ships `changeme`: that is no key, and hides none
                self.values[section, key] = (value.strip(), path)

    def get(self, section: str, key: str, default: str) -> str:
        """The text of a key, or the default."""
        self.asked.add((section, key))
        return self.values.get((section, key), (default, self._state_dir))[0]

    def parse(self, section: str, key: str, default: T, convert: Callable[[str], T], allowed: str) -> T:
        """Convert a value, or raise a `SettingsError` that names file, section, key and what is allowed."""
        self.asked.add((section, key))
        if (section, key) not in self.values or not self.values[section, key][0]:
            return default
        value, path = self.values[section, key]
        try:
            return convert(value)
        except (ValueError, OverflowError) as exc:
            shown = str(exc) if isinstance(exc, conversions.HiddenError) else repr(value)
            message = f"{path}: [{section}] {key} = {shown} is not allowed; give {allowed}"
            raise SettingsError(message) from None

    def path_of(self, section: str, key: str) -> Path | None:
        """The file that gives a key; None if none does."""
        return self.values.get((section, key), (None, None))[1]

    def check_names(self) -> list[str]:
        """Refuse keys that nobody asked for where all keys are ours; call it after all keys were read.

        Returns:
            Sentences on names elsewhere that are nearly ours.
        Raises:
            SettingsError: a section of our own has a key that we do not have.
        """
        for (section, key), near in names.unknown_keys(self.values, self.asked):
            path = self.values[section, key][1]
            meant = f"; is {near} meant?" if near else "; take it out"
            raise SettingsError(f"{path}: [{section}] has no key {key}{meant}")
        return list(names.doubtful_names(self.values, self.asked))

    def port(self, section: str, key: str, default: int) -> int:
        """A TCP port."""
        return self.parse(section, key, default, conversions.port, "a TCP port, 1 to 65535")


def invalid(path: object, exc: configparser.Error) -> SettingsError:
    """The error for a file that is none; to be raised without a cause, which has whole lines of the file.

    Args:
        path: of the file.
        exc: what reading it raised.
    """
    return SettingsError(f"{path} is not a valid configuration file: {trouble_of(exc)}")


def trouble_of(exc: configparser.Error) -> str:
    """What is wrong with a file, without what stands there: it may be a key or a password.

    Args:
        exc: what reading it raised.
    """
    if isinstance(exc, configparser.MissingSectionHeaderError):
        return f"line {exc.lineno} stands before any [section]"
    if isinstance(exc, configparser.ParsingError):
        numbers = [number for number, _line in exc.errors] or [getattr(exc, "lineno", 0)]
        return f"no `key = value` and no [section] in line {', '.join(map(str, numbers))}"
    if isinstance(exc, configparser.DuplicateOptionError):
        return f"[{exc.section}] has an option for the second time in line {exc.lineno}"
    return " ".join(str(exc).split())


def _how_to_read(exc: OSError | UnicodeDecodeError) -> str:
    """What helps when a configuration file cannot be read."""
    found = installation.find() if isinstance(exc, PermissionError) else None
    if found is None or not found.user:
        return "mend the file or its permissions"
    return (
        "it is for the services alone. People log in with a credential (`quakegrid login FILE`), which an "
        f"administrator makes (`sudo quakegrid user add NAME`); administrators type `sudo -u {found.user} "
        "quakegrid …`"
    )
