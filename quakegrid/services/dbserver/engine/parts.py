"""Results that are read and encoded a part at a time, since the whole would take too much memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parts:
    """A list or table in parts, at least one, which may be empty; can be read once.

    Encoded one behind the other, the parts are the encoding of the whole.
    """

    values: Generator[Any, None, None]
