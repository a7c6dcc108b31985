"""Configuration without the keys of clusters."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from quakegrid.services.agent.node.templates import template_config
from quakegrid.settings import keyless

KEY = "ZmFrZS1rZXktb2YtYS1jbHVzdGVy"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", ""),
        ("[a]\nb = 1\n", "[a]\nb = 1\n"),
        (f"[dbserver]\nauthkey = {KEY}\nhost = x\n", "[dbserver]\n\nhost = x\n"),
        (f"[dbserver]\nhost = x\nauthkey={KEY}", "[dbserver]\nhost = x\n"),
        (f"[dbserver]\r\nAuthKey : {KEY}\r\nhost = x\r\n", "[dbserver]\r\n\nhost = x\r\n"),
        (f"[dbserver]\nauthkey =\n  {KEY}\n\n\t{KEY}\nhost = x\n", "[dbserver]\n\n\n\n\nhost = x\n"),
        (
            f"[a]\n  authkey = {KEY}\n[b]\n# old authkey {KEY}\nauthkey = {KEY}\n\n[c]\nd = 2\n",
            "[a]\n\n[b]\n\n\n\n[c]\nd = 2\n",
        ),
        (f"authkey={KEY}\n" * 3, "\n\n\n"),
    ],
)
def test_lines_of_keys_are_left_out(tmp_path: Path, text: str, left: str) -> None:
    """Wherever, however written, with what continues them; the other lines keep their numbers."""
    path = tmp_path / "openquake.cfg"
    path.write_bytes(text.encode())

    assert keyless.read_text(path) == left


def test_file_that_there_is_not_or_is_no_text_is_an_error(tmp_path: Path) -> None:
    """As in any reading; nothing stays open."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n")

    with pytest.raises(FileNotFoundError):
        keyless.read_text(tmp_path / "none")
    with pytest.raises(UnicodeDecodeError):
        keyless.read_text(tmp_path / "binary")
    with pytest.raises(OSError, match=r"No such device|Is a directory"):
        keyless.read_text(tmp_path)


def test_files_are_merged_as_they_are_read_elsewhere(tmp_path: Path) -> None:
    """The last one wins key by key; a key behind a line's end of another kind is dropped, too."""
    one, two, none = tmp_path / "one", tmp_path / "two", tmp_path / "none"
    one.write_text(f"[dbserver]\nhost = a\nauthkey = {KEY}\n[x]\ny = 50%\n")
    two.write_bytes(f"[dbserver]\rhost = b\rauthkey = {KEY}\r".encode())

    merged = keyless.merge([one, none, two])

    assert {name: dict(section) for name, section in merged.items()} == {
        "DEFAULT": {},
        "dbserver": {"host": "a"},
        "x": {"y": "50%"},
    }
    two.write_text("no section\n")
    with pytest.raises(configparser.Error):
        keyless.merge([two])


def test_file_for_a_template_that_cannot_be_made_keeps_the_lines(tmp_path: Path) -> None:
    """The agent tells why in its log and to whoever asks for a driver."""
    path = tmp_path / "openquake.cfg"
    path.write_text(f"[dbserver]\nauthkey = {KEY}\n[notify]\nurl {KEY}\n")

    with pytest.raises(OSError, match=r"openquake.cfg: no `key = value` and no \[section\] in line 4$"):
        template_config.environ_of(tmp_path, {"OQ_CONFIG_FILE": str(path)})
