"""What can be believed of a damaged journal is a beginning of it, and never a wrong byte."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quakegrid.journals import records
from quakegrid.journals.records import Record, RecordKind

RECORDS = st.builds(
    Record,
    kind=st.sampled_from(RecordKind),
    frames=st.lists(st.binary(max_size=40), max_size=4),
    number=st.integers(0, 1 << 40),
    digest=st.binary(min_size=records.DIGEST_BYTES, max_size=records.DIGEST_BYTES),
)
Written = list[Record]
# A busy machine is slow at making examples.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(wanted: Written) -> bytes:
    """The file of these records."""
    data, checksum = bytearray(), 0
    for record in wanted:
        parts, checksum = records.encode(record, checksum)
        assert sum(len(part) for part in parts) == records.byte_count(record)
        for part in parts:
            data += part
    return bytes(data)


def believed(data: bytes) -> Written:
    """The records of a file, as they were given."""
    view, found, start = memoryview(data), [], 0
    for placed in records.read(view):
        assert records.at(view, start) == placed.record
        start = placed.end
        frames = [bytes(frame) for frame in placed.record.frames]
        found.append(Record(placed.record.kind, frames, placed.record.number, placed.record.digest))
    return found


@UNHURRIED
@given(st.lists(RECORDS, max_size=6))
def test_whole_journal_is_read_as_it_was_written(wanted: Written) -> None:
    """All records, in their order, with every byte."""
    assert believed(written(wanted)) == wanted


@UNHURRIED
@given(st.lists(RECORDS, min_size=1, max_size=6), st.data())
def test_cut_journal_gives_the_whole_records_before_the_cut(wanted: Written, data: st.DataObject) -> None:
    """A torn end costs the record that it is in, and no other."""
    whole = written(wanted)
    cut = data.draw(st.integers(0, len(whole) - 1))

    found = believed(whole[:cut] + bytes(data.draw(st.sampled_from([0, 1, 500]))))

    assert found == wanted[: len(found)]
    assert len(written(wanted[: len(found) + 1])) > cut


@settings(UNHURRIED, max_examples=300)
@given(st.lists(RECORDS, min_size=1, max_size=6), st.data())
def test_flipped_bit_ends_what_is_believed(wanted: Written, data: st.DataObject) -> None:
    """The record with the bit, and all behind it, are not believed; those before it are."""
    whole = bytearray(written(wanted))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8

    found = believed(bytes(whole))

    assert found == wanted[: len(found)]
    assert len(written(wanted[: len(found)])) <= bit // 8 < len(written(wanted[: len(found) + 1]))


@UNHURRIED
@given(st.lists(RECORDS, min_size=3, max_size=6), st.data())
def test_missing_record_ends_what_is_believed(wanted: Written, data: st.DataObject) -> None:
    """A record that is right by itself is not believed in another place."""
    gone = data.draw(st.integers(0, len(wanted) - 2))
    start, end = len(written(wanted[:gone])), len(written(wanted[: gone + 1]))
    whole = written(wanted)

    assert believed(whole[:start] + whole[end:]) == wanted[:gone]
