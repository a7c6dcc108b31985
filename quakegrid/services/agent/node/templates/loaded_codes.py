"""What the templates of this node have loaded, by their numbers, and which one a session can use."""

from __future__ import annotations

from collections.abc import Sequence

from quakegrid.nodes.fingerprint import CLOCK, Fingerprint, differences
from quakegrid.services.agent.orders import LoadedCode


class LoadedCodes:
    """The code of each template that has said what it has loaded."""

    def __init__(self) -> None:
        self._codes: dict[int, LoadedCode] = {}

    def store(self, number: int, code: LoadedCode) -> None:
        """Note what a template has loaded."""
        self._codes[number] = code

    def forget(self, number: int) -> None:
        """Drop the code of a template that is gone."""
        self._codes.pop(number, None)

    def of(self, number: int) -> LoadedCode:
        """What a template has loaded; nothing if it has not said so, or there is none."""
        return self._codes.get(number, LoadedCode())

    def find(self, needed: Fingerprint, numbers: Sequence[int]) -> int:
        """The first of these templates that has what a session needs; 0 if none has."""
        # The clock belongs to the node, not to a template; the broker compares it.
        asked = {name: value for name, value in needed.items() if name != CLOCK}
        return next((each for each in numbers if not differences(asked, self.of(each).fingerprint)), 0)
