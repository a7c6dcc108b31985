"""Lists in pages: sizes and tokens. A token is the id of the page's last row."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.errors import UsageError


@dataclass(frozen=True, slots=True)
class PageSize:
    """How many rows a page has by default, and at most."""

    default: int
    largest: int

    def clamp(self, wanted: int) -> int:
        """The size of a page; `wanted` is what was asked for, 0 means the default.

        Raises:
            UsageError: `wanted` is negative.
        """
        if wanted < 0:
            raise UsageError(f"page_size is {wanted}; give 1 to {self.largest}, or 0 for {self.default}")
        return min(wanted or self.default, self.largest)


def parse_token(token: str, *, start: int) -> int:
    """The id that a page token names; `start` for the first page.

    Raises:
        UsageError: the token is no page token of this list.
    """
    if not token:
        return start
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise UsageError(f"{token!r} is no page token of this list")
    return int(token)


def check_skip(count: int) -> int:
    """Check how many rows are to be left out.

    Raises:
        UsageError: the number is negative.
    """
    if count < 0:
        raise UsageError(f"skip_count is {count}; give 0 or more")
    return count
