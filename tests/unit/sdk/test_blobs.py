"""Which frames travel once to each node: those that come again."""

from __future__ import annotations

from pathlib import Path

from quakegrid.blobs.local_store import LocalBlobs
from quakegrid.blobs.table import BLOB_BYTES, BlobTable
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


def local_table(folder: Path, limit_bytes: int = 1 << 30) -> BlobTable:
    """A table whose driver shares a folder with workers."""
    table = BlobTable()
    table.store = LocalBlobs(folder, limit_bytes)
    return table


def test_frame_for_workers_of_the_same_machine_is_a_file_while_its_task_is_not_done(tmp_path: Path) -> None:
    """Nothing is put to the lane, and what comes once is gone with its task."""
    table = local_table(tmp_path)

    split = table.split([b"head", LARGE], {})
    (path,) = tmp_path.iterdir()

    assert (split.frames, places(split.refs), split.to_put) == ([b"head"], [1], [])
    assert (path.name, path.read_bytes()) == (split.refs[0].blob_id.hex(), LARGE)
    assert table.content(split.refs[0].blob_id) == LARGE
    table.done(split.refs)
    assert list(tmp_path.iterdir()) == []
    assert table.content(split.refs[0].blob_id) is None


def test_file_of_a_content_that_came_again_stays(tmp_path: Path) -> None:
    """The next task finds it; a lane that was started again is not told of it."""
    table = local_table(tmp_path)
    table.done(table.split([b"head", LARGE, LARGE], {}).refs)

    assert table.start_again() == []
    assert len(list(tmp_path.iterdir())) == 1
    assert table.split([b"head", LARGE], {}).frames == [b"head"]


def test_files_that_no_task_needs_make_room(tmp_path: Path) -> None:
    """With room for one, the idle one goes; one that is needed stays, and the other goes with its task."""
    table = local_table(tmp_path, len(LARGE))
    table.done(table.split([b"head", LARGE, LARGE], {}).refs)

    other = table.split([b"head", OTHER], {})
    again = table.split([b"head", LARGE], {})

    assert (other.frames, other.to_put) == ([b"head"], [])
    assert (again.frames, [content for _, content in again.to_put]) == ([b"head"], [LARGE])
    assert [path.name for path in tmp_path.iterdir()] == [other.refs[0].blob_id.hex()]


def test_without_the_folder_frames_travel(tmp_path: Path) -> None:
    """The agent has not made it yet, or removed it; then the file is written again when it is there."""
    folder = tmp_path / "7"
    table = local_table(folder)
    assert table.split([b"head", LARGE], {}).frames == [b"head", LARGE]
    folder.mkdir()
    refs = [*table.split([b"head", OTHER], {}).refs]
    (folder / refs[0].blob_id.hex()).unlink()

    table.split([b"head", OTHER], {})

    assert [path.read_bytes() for path in folder.iterdir()] == [OTHER]
