"""Tokens of the web service: only the cluster can make one."""

from __future__ import annotations

import pytest

from quakegrid.access import web_tokens

KEY, OLD_KEY, OTHER_KEY = b"k" * 32, b"o" * 32, b"x" * 32
TOKEN = web_tokens.to_text(b"s" * web_tokens.SECRET_BYTES, KEY)


def test_token_of_a_known_key_is_genuine() -> None:
    """Of the key that signs, and of the one before while it counts."""
    assert web_tokens.is_genuine(TOKEN, [KEY])
    assert web_tokens.is_genuine(TOKEN, [OLD_KEY, KEY])
    assert not web_tokens.is_genuine(TOKEN, [OTHER_KEY])
    assert not web_tokens.is_genuine(TOKEN, [])


@pytest.mark.parametrize("at", range(len(web_tokens.PREFIX), len(TOKEN)))
def test_each_changed_character_is_noticed(at: int) -> None:
    """Of the secret as of its signature."""
    other = "A" if TOKEN[at] != "A" else "B"
    assert not web_tokens.is_genuine(TOKEN[:at] + other + TOKEN[at + 1 :], [KEY])


@pytest.mark.parametrize(
    "text", ["", "qgw_", TOKEN[:-1], TOKEN + "A", TOKEN.removeprefix("qgw_"), "x" * len(TOKEN),
             "qgw_" + "=" * 64, "qgw_" + "!" * 64, "qgw_" + "é" * 64, "qgw_" + "A" * 63 + "="]
)  # fmt: skip
def test_other_texts_are_none(text: str) -> None:
    """Whatever somebody sends."""
    assert not web_tokens.is_genuine(text, [KEY])


def test_id_tells_tokens_apart_and_nothing_of_them() -> None:
    """Any text has one."""
    found = web_tokens.id_of(TOKEN)

    assert len(found) == web_tokens.ID_DIGITS
    assert found != web_tokens.id_of("\ud800")
    assert found not in TOKEN
