"""Prepares foreign texts for a terminal: descriptions, log lines, names that anybody may have written.

A terminal obeys escape sequences (it clears the screen, sets its title, hides text), and a newline would let
a description look like a line of ours. JSON needs none of this.
"""

from __future__ import annotations

import re

INDENT = "    "
# Control characters, separators of lines, and characters that turn the direction of the text after them.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_IN_LINE = re.compile(f"[{_CONTROL}\t\n]")
_IN_TEXT = re.compile(f"[{_CONTROL}]")


def one_line(text: str) -> str:
    r"""A text on one line; a character that must not be printed is written as Python does, such as `\x1b`."""
    return _IN_LINE.sub(_escape, text)


def paragraph(text: str) -> str:
    """The same with its line breaks kept; lines after the first one are indented, so that none looks new."""
    return _IN_TEXT.sub(_escape, text.replace("\r\n", "\n")).replace("\n", f"\n{INDENT}")


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
