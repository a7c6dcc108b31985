"""Upstream's SQL templates (`?x ?X ?s ?S ?D ?A ?O`), expanded into SQL and its parameters.

The same language as openquake.commonlib.dbapi, so that queries can be taken over word by word. Pure.
`?x` and `?X` are parameters, `?s` and `?S` names put into the text, `?D`, `?A` and `?O` dictionaries
of an assignment, an AND and an OR.
"""

from __future__ import annotations

import datetime
import functools
import re
from typing import Any

from quakegrid.errors import UsageError

# Longer texts contain data, so they do not come again, and would fill the memory.
LONGEST_KEPT = 4096
_PLACEHOLDER = re.compile(r"\?[SXDAOsx]")
_NAME = re.compile(r"[A-Za-z_][\w.]*|-?\d+")


def expand(template: str, *args: Any) -> tuple[str, tuple[Any, ...]]:
    """Expand a template; lines that are comments are dropped, and datetimes become SQLite's text.

    Raises:
        UsageError: there are fewer arguments than placeholders, or one is of the wrong kind.
    """
    plain = _parameters_only(template) if len(template) <= LONGEST_KEPT else None
    if plain is not None and plain[1] <= len(args):
        return plain[0], tuple(map(to_sql, args[: plain[1]]))
    template = strip_comments(template)
    if not args:
        return template, ()
    expansion = _Expansion(list(args))
    try:
        sql = _PLACEHOLDER.sub(expansion.replace, template)
    except IndexError:
        raise UsageError(f"too few arguments for the placeholders of {template!r}") from None
    except (TypeError, AttributeError, ValueError) as exc:
        raise UsageError(f"an argument does not fit its placeholder in {template!r}: {exc}") from exc
    return sql, tuple(map(to_sql, expansion.parameters))


def strip_comments(template: str) -> str:
    """The template without its lines that start with `--`."""
    return _strip_short(template) if len(template) <= LONGEST_KEPT else _strip(template)


@functools.lru_cache(500)
def _strip_short(template: str) -> str:
    return _strip(template)


def _strip(template: str) -> str:
    return "\n".join(line for line in template.splitlines() if not line.lstrip().startswith("--"))


@functools.lru_cache(500)
def _parameters_only(template: str) -> tuple[str, int] | None:
    """SQL and its number of parameters, if the template has no other placeholders than `?x`."""
    template = strip_comments(template)
    kinds = _PLACEHOLDER.findall(template)
    return (template.replace("?x", "?"), len(kinds)) if set(kinds) <= {"?x"} else None


def to_sql(value: Any) -> Any:
    """What SQLite stores for a value: instants as text of a naive UTC time, as upstream has them."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value.isoformat(" ")
    return value


def from_sql_time(text: bytes) -> datetime.datetime | str:
    """Read a column of type TIMESTAMP as a naive datetime in UTC. Text that is no time stays text."""
    try:
        value = datetime.datetime.fromisoformat(text.decode())
        return value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # the first or the last hours that there are, in another zone
        return text.decode(errors="replace")


class _Expansion:
    """The arguments still to use and the parameters collected so far."""

    def __init__(self, args: list[Any]) -> None:
        self.args = args
        self.parameters: list[Any] = []

    def replace(self, match: re.Match[str]) -> str:
        arg = self.args.pop(0)
        match match.group():
            case "?x":
                return self._parameter(arg)
            case "?X":
                return ", ".join(self._parameter(value) for value in arg)
            case "?s":
                return _name(arg)
            case "?S":
                return ", ".join(map(_name, arg))
            case "?D":
                return ", ".join(f"{_name(key)}={self._parameter(arg[key])}" for key in sorted(arg))
            case placeholder:
                joint = " AND " if placeholder == "?A" else " OR "
                return joint.join(self._condition(key, arg[key]) for key in sorted(arg)) or "1"

    def _parameter(self, value: Any) -> str:
        self.parameters.append(value)
        return "?"

    def _condition(self, key: str, value: Any) -> str:
        return f"{_name(key)} IS NULL" if value is None else f"{_name(key)}={self._parameter(value)}"


def _name(value: Any) -> str:
    """A name or an integer, the only things that may become part of the SQL text."""
    text = str(value)
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a name")
    return text
