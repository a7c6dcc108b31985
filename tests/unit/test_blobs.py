"""Which frames travel once to each node: those that come again."""

from __future__ import annotations

from quakegrid.blobs import BLOB_BYTES, BlobTable
from quakegrid.wire.v1 import lane_pb2

LARGE = bytes(range(256)) * (BLOB_BYTES // 256)
OTHER = LARGE[::-1]


def places(refs: list[lane_pb2.BlobRef]) -> list[int]:
    """Where blobs belong in their payload."""
    return [ref.place for ref in refs]


def test_frame_that_comes_once_goes_with_its_task() -> None:
    """What is not shared is not kept anywhere."""
    table = BlobTable()

    split = table.split([b"head", LARGE, b"small"], {})

    assert (split.frames, split.refs, split.to_put) == ([b"head", LARGE, b"small"], [], [])


def test_frame_that_comes_again_is_put_once_and_named_from_then_on() -> None:
    """Equal contents are the same blob, whatever object holds them."""
    table = BlobTable()
    table.split([b"head", LARGE], {})

    second = table.split([b"head", b"small", bytes(bytearray(LARGE))], {})
    third = table.split([b"head", LARGE, OTHER], {})

    assert (second.frames, places(second.refs)) == ([b"head", b"small"], [2])
    assert [content for _, content in second.to_put] == [LARGE]
    assert (third.frames, places(third.refs), third.to_put) == ([b"head", OTHER], [1], [])
    assert third.refs[0].blob_id == second.refs[0].blob_id
    assert third.refs[0].byte_count == len(LARGE)


def test_frame_twice_in_one_payload_is_a_blob() -> None:
    """It is sent once even the first time."""
    split = BlobTable().split([b"head", LARGE, OTHER, LARGE], {})

    assert (split.frames, places(split.refs), len(split.to_put)) == ([b"head", OTHER], [1, 3], 1)


def test_lane_that_forgot_gets_the_blobs_of_tasks_that_are_not_done() -> None:
    """The others are let go, and recognised when they come again."""
    table = BlobTable()
    for frame in (LARGE, LARGE, OTHER, OTHER):
        last = table.split([b"head", frame], {})
    kept = table.split([b"head", LARGE], {})
    table.done(last.refs)
    blob_id = last.refs[0].blob_id

    again = table.start_again()

    assert again == [(kept.refs[0].blob_id, LARGE)]
    assert not table.is_known(blob_id)
    assert table.split([b"head", OTHER], {}).to_put == [(blob_id, OTHER)]


def test_object_is_hashed_once_for_each_chunk() -> None:
    """A known hash is believed."""
    table = BlobTable()
    view = memoryview(bytearray(LARGE))

    split = table.split([b"head", view, view], {id(view.obj): b"known"})

    assert {ref.blob_id for ref in split.refs} == {b"known"}
