"""Tokens for nodes as texts: what people paste is read as it was written, or refused."""

from __future__ import annotations

import base64

import pytest

from quakegrid.access import node_tokens
from quakegrid.access.node_tokens import NodeToken

TOKEN = NodeToken("master.example.org:1908", "10.0.0.1:1911", b"\2" + b"c" * 32, b"k" * 32, b"der" * 100)
TEXT = node_tokens.to_text(TOKEN)


def test_token_is_read_as_it_was_written() -> None:
    """It is one word, and shows its key to nobody who prints it as an object."""
    assert node_tokens.from_text(TEXT) == TOKEN
    assert TEXT.isascii()
    assert not set(TEXT) & set(" /+=\"'$\n")
    assert "kkk" not in repr(TOKEN)


def test_line_breaks_of_a_terminal_do_no_harm() -> None:
    """As a long text is pasted."""
    broken = f" {TEXT[:70]}\r\n{TEXT[70:200]}\n  {TEXT[200:]}\n"

    assert node_tokens.from_text(broken) == TOKEN


@pytest.mark.parametrize("cut", [len(TEXT) // 2, len(TEXT) - 1, len("qgnode1.") + 3, len("qgnode1.")])
def test_part_of_a_token_is_refused(cut: int) -> None:
    """In words."""
    with pytest.raises(ValueError, match="a part of the token is missing or changed"):
        node_tokens.from_text(TEXT[:cut])


@pytest.mark.parametrize("place", [10, 40, 100, len(TEXT) - 5])
def test_changed_token_is_refused(place: int) -> None:
    """One letter is enough."""
    other = "A" if TEXT[place] != "A" else "B"

    with pytest.raises(ValueError, match="a part of the token is missing or changed"):
        node_tokens.from_text(TEXT[:place] + other + TEXT[place + 1 :])


@pytest.mark.parametrize("text", ["", "hello", "qgnode2.AAAA", "x" * 10_000, "qgnode1." + "A" * 5000])
def test_other_text_is_no_token(text: str) -> None:
    """It may be as long as people like."""
    with pytest.raises(ValueError, match=r"a token begins with qgnode1\."):
        node_tokens.from_text(text)


@pytest.mark.parametrize("text", ["qgnode1.ä", "qgnode1.A", "qgnode1.$$$$"])
def test_text_that_is_no_code_is_refused(text: str) -> None:
    """Whatever its letters."""
    with pytest.raises(ValueError, match="missing or changed"):
        node_tokens.from_text(text)


def test_token_of_nothing_is_refused_where_it_is_used() -> None:
    """Its parts are empty; who makes one can also give it a sum."""
    body = b""
    coded = base64.urlsafe_b64encode(node_tokens._checksum(body) + body).decode().rstrip("=")

    assert node_tokens.from_text(f"qgnode1.{coded}") == NodeToken("", "", b"", b"", b"")
