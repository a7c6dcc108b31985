"""An epoch of a file that grows: ranges that were copied when it began, laid over what the file has now."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

Range = tuple[int, bytes]


class Overlay:
    """Ranges of a file as they were; they do not touch each other.

    Args:
        ranges: offset and content of each, in the order in which they were read. Where they overlap the file
            has not changed meanwhile.
    """

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._contents: list[bytes] = []
        for start, content in _merged(ranges):
            self._starts.append(start)
            self._contents.append(content)

    @property
    def byte_count(self) -> int:
        """What the copies take."""
        return sum(map(len, self._contents))

    def ranges(self) -> list[Range]:
        """The copies, in order."""
        return list(zip(self._starts, self._contents, strict=True))

    def lay_over(self, offset: int, content: bytes) -> bytes:
        """The bytes of the epoch.

        Args:
            offset: of the bytes in the file.
            content: what the file has there now.
        """
        end = offset + len(content)
        place = max(0, bisect.bisect_right(self._starts, offset) - 1)
        result: bytearray | None = None
        while place < len(self._starts) and self._starts[place] < end:
            start, copied = self._starts[place], self._contents[place]
            first, last = max(start, offset), min(start + len(copied), end)
            if first < last:
                result = bytearray(content) if result is None else result
                result[first - offset : last - offset] = copied[first - start : last - start]
            place += 1
        return content if result is None else bytes(result)


def _merged(ranges: Iterable[Range]) -> Iterable[Range]:
    """Ranges in order of their offsets, joined where they overlap or touch."""
    start, joined = 0, bytearray()
    for offset, content in sorted(ranges, key=lambda item: item[0]):
        if joined and offset > start + len(joined):
            yield start, bytes(joined)
            joined = bytearray()
        if not joined:
            start = offset
        fresh = start + len(joined) - offset  # so many of its bytes are here already
        joined += content[fresh:]
    if joined:
        yield start, bytes(joined)
