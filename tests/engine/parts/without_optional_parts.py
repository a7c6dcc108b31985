"""A module for `[agent] preload`: on its node the optional parts of the engine are not installed."""

from __future__ import annotations

import sys
from typing import Any

# An import of a module that is None here fails.
ABSENT: dict[str, Any] = {"networkx": None, "onnxruntime": None}
sys.modules.update(ABSENT)
