"""Makes foreign texts fit for messages: well-formed and of a bounded size. Pure."""

from __future__ import annotations

from enum import Enum

from quakegrid.jobs import engine_values


class Cut(Enum):
    """Where a text that is too long loses its rest."""

    END = "end"
    MIDDLE = "middle"  # where the end tells as much as the beginning


def shorten(text: str, most_chars: int, where: Cut = Cut.END) -> str:
    """A text for people, of about so many characters: one that was cut shows that.

    Args:
        text: any str.
        most_chars: of it; what is said about the cut comes on top.
        where: it is cut.
    """
    rest = len(text) - most_chars
    if rest <= 0:
        return text
    if where is Cut.END:
        return f"{text[:most_chars]} ... ({rest} more characters were left out)"
    half = most_chars // 2
    return f"{text[:half]} … {text[-half:]}"


def bounded(text: str, most_bytes: int) -> str:
    """A text as protobuf takes it; of a text that is too long its beginning and its end.

    Args:
        text: any str.
        most_bytes: size of the result in UTF-8 at most, 100 or more.
    """
    text = engine_values.well_formed(text)
    data = text.encode()
    if len(data) <= most_bytes:
        return text
    half = (most_bytes - 100) // 2
    left_out = f"\n[... {len(data) - 2 * half} bytes are left out ...]\n"
    return data[:half].decode(errors="ignore") + left_out + data[-half:].decode(errors="ignore")


def cut(text: str, most_chars: int) -> str:
    """The beginning of a text, well-formed."""
    return engine_values.well_formed(text[:most_chars])
