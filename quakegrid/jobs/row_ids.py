"""Ids of rows in the database, checked before they are sent: a message holds 64 bits."""

from __future__ import annotations

from quakegrid import errors

# JSON's readers keep larger numbers as floats.
LARGEST_ID = (1 << 53) - 1


def checked(number: int, what: str = "job") -> int:
    """The same number, if it can be an id or count from the end.

    Args:
        number: what was asked for.
        what: the kind of row, such as "job", for the message.
    Raises:
        NotFoundError: no id is that large.
    """
    if not -LARGEST_ID <= number <= LARGEST_ID:
        raise errors.NotFoundError(f"there is no {what} {number}; ids have at most 16 digits")
    return number
