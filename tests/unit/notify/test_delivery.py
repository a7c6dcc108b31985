"""To whom an end of a job is told, if a person has named them."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.notify import delivery


def test_person_names_no_command(tmp_path: Path) -> None:
    """It would run as the account of a driver."""
    made = tmp_path / "made"

    words = delivery.deliver_url(f"touch {made}", b"{}", is_guarded=True)

    assert words == f"not notified: touch {made} is no URL; give https://host/path"
    assert not made.exists()


@pytest.mark.parametrize("url", ["", "http://", "https://host/a b", "http://host:99999/"])
def test_address_that_is_none_is_told(url: str) -> None:
    """In words: the calculation has ended, and nothing else shall fail."""
    assert delivery.deliver_url(url, b"{}", is_guarded=True).startswith("not notified: ")


def test_address_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarded or not, as it is said."""
    asked = []

    def post(url: str, document: bytes, *, is_guarded: bool) -> str:
        asked.append((url, document, is_guarded))
        return "HTTP 404" if is_guarded else ""

    monkeypatch.setattr(delivery, "post", post)

    assert delivery.deliver_url("https://host/a", b"1", is_guarded=False) == ""
    assert delivery.deliver_url("https://host/a", b"2", is_guarded=True).endswith("HTTP 404")
    assert asked == [("https://host/a", b"1", False), ("https://host/a", b"2", True)]
