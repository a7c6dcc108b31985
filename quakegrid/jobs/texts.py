"""Makes foreign texts fit for messages: well-formed and of a bounded size. Pure."""

from __future__ import annotations

from quakegrid.jobs import engine_values


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
