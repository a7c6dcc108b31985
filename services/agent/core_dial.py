"""How many of its cores the node gives: what somebody dialled, kept over restarts of the agent."""

from __future__ import annotations

import contextlib
from pathlib import Path

from quakegrid.errors import UsageError

ALL = -1
FILE_NAME = "agent-cores"


class CoreDial:
    """The dial of one node.

    Args:
        state_dir: where it is kept.
        all_count: cores that the node has.
    """

    def __init__(self, state_dir: Path, all_count: int) -> None:
        self._path = state_dir / FILE_NAME
        self.all_count = all_count
        self._dialled = ALL
        with contextlib.suppress(FileNotFoundError, ValueError):  # a file cut short counts for nothing
            self._dialled = max(ALL, int(self._path.read_text(encoding="ascii")))

    @property
    def core_count(self) -> int:
        """Cores that the node gives."""
        return self.all_count if self._dialled == ALL else min(self._dialled, self.all_count)

    def turn(self, core_count: int) -> None:
        """Give so many from now on; -1 for all.

        Raises:
            UsageError: the node has not so many.
        """
        if not ALL <= core_count <= self.all_count:
            raise UsageError(
                f"this node has {self.all_count} cores: 0 to {self.all_count} or all, not {core_count}"
            )
        if core_count == ALL:
            self._path.unlink(missing_ok=True)
        else:
            partial = self._path.with_suffix(".new")
            partial.write_text(str(core_count), encoding="ascii")
            partial.replace(self._path)
        self._dialled = core_count
