"""An epoch reads what a frozen copy of the file reads, wherever the file changed outside of what it needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quakegrid.files.rules.blocks import BLOCK_BYTES, block_count, blocks_of, place_of
from quakegrid.files.rules.overlays import Overlay

SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), max_size=12)


@given(frozen=st.binary(min_size=1, max_size=220), spans=SPANS, live=st.binary(max_size=400), data=st.data())
def test_overlay_reads_the_frozen_copy_where_it_was_read_and_the_live_file_elsewhere(
    frozen: bytes, spans: list[tuple[int, int]], live: bytes, data: st.DataObject
) -> None:
    """Byte by byte, for any ranges, in any order, overlapping or not, and for any read."""
    ranges = [(start, frozen[start : start + count]) for start, count in spans]
    overlay = Overlay(ranges)
    copied = {place for start, content in ranges for place in range(start, start + len(content))}
    live = live.ljust(len(frozen), b"\0")
    offset = data.draw(st.integers(0, len(live)))
    byte_count = data.draw(st.integers(0, len(live) - offset))

    seen = overlay.lay_over(offset, live[offset : offset + byte_count])

    places = range(offset, offset + byte_count)
    assert seen == bytes(frozen[place] if place in copied else live[place] for place in places)
    assert overlay.byte_count == len(copied)
    assert [frozen[start : start + len(part)] for start, part in overlay.ranges()] == [
        part for _, part in overlay.ranges()
    ]


@given(st.integers(0, 5 * BLOCK_BYTES), st.integers(0, 3 * BLOCK_BYTES), st.integers(0, 3 * BLOCK_BYTES))
def test_blocks_of_a_range_cover_it_and_no_more(file_bytes: int, offset: int, byte_count: int) -> None:
    """Each of them has a byte of the range, together they have all, and the last one ends with the file."""
    byte_count = max(0, min(byte_count, file_bytes - offset))
    blocks = blocks_of(offset, byte_count)

    places = [place_of(block, file_bytes) for block in blocks]
    if byte_count:
        assert places[0][0] <= offset < sum(places[0])
        assert places[-1][0] < offset + byte_count <= sum(places[-1])
        assert blocks.stop <= block_count(file_bytes)
    else:
        assert places == []


def test_place_of_the_last_block_ends_with_the_file() -> None:
    """What is behind the end has no bytes."""
    assert place_of(1, BLOCK_BYTES + 5) == (BLOCK_BYTES, 5)
    assert place_of(2, BLOCK_BYTES + 5) == (2 * BLOCK_BYTES, 0)
