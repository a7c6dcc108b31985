"""What travels in a memfd."""

from __future__ import annotations

import os

import pytest

from services.agent.packets import read_memfd, write_memfd


@pytest.mark.parametrize("data", [b"", b"setup", bytes(1 << 20)])
def test_those_who_share_an_open_file_read_all_of_it(data: bytes) -> None:
    """Wherever the others have left its position."""
    fd = write_memfd("test", data)
    copies = [os.dup(fd) for _ in range(3)]
    os.close(fd)

    os.lseek(copies[0], len(data) // 2, os.SEEK_SET)

    assert [read_memfd(copy) for copy in copies] == [data] * 3
