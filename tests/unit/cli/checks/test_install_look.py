"""What `install` finds out before it changes anything."""

from __future__ import annotations

import pytest

from quakegrid.access import node_tokens
from quakegrid.access.node_tokens import CA_KEY_BYTES, KEY_BYTES, NodeToken
from quakegrid.cli import install
from quakegrid.errors import UsageError


def test_broker_is_that_of_the_token() -> None:
    """Of a cluster whose broker has another port than usual."""
    token = NodeToken("10.0.0.1:2908", "10.0.0.1:2911", bytes(CA_KEY_BYTES), bytes(KEY_BYTES), b"der")

    assert install.token_broker(node_tokens.to_text(token)) == ("10.0.0.1", 2911)
    with pytest.raises(UsageError, match="no token"):
        install.token_broker("qgnode1.abc")
