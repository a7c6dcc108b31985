"""Which frames of a session's tasks travel once to each node instead of with each task.

Knows contents by their hash; refuses to know sockets. A large frame that comes once goes with its task; one
that comes again is a blob, put to the lane and named by the tasks from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from quakegrid.wire.v1 import lane_pb2

# Below this, asking for a blob costs more than sending it again.
BLOB_BYTES = 256 << 10
# Contents remembered, to recognise one that comes again.
MAX_SEEN = 10_000

Content = bytes | memoryview
# Hashes of the objects behind frames, by their ids; valid while the objects live and do not change.
Digests = dict[int, bytes]


@dataclass(slots=True)
class _Blob:
    """A blob that the lane has; its content stays here while a task that names it is not done."""

    content: Content | None = None
    task_count: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """A payload as it travels: frames that go along, blobs that it names, and those to put before."""

    frames: list[Content]
    refs: list[lane_pb2.BlobRef]
    to_put: list[tuple[bytes, Content]]


class BlobTable:
    """The blobs of one session, as its driver sees them."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}
        self._blobs: dict[bytes, _Blob] = {}

    def is_known(self, blob_id: bytes) -> bool:
        """Whether the lane has this content."""
        return blob_id in self._blobs

    def split(self, frames: Sequence[Content], digests: Digests) -> Split:
        """Take the blobs out of a payload; `done` must follow for what it names."""
        kept: list[Content] = []
        refs: list[lane_pb2.BlobRef] = []
        to_put: list[tuple[bytes, Content]] = []
        sizes = [frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in frames]
        if max(sizes) < BLOB_BYTES:
            return Split(list(frames), refs, to_put)
        ids = [
            digest(frame, digests) if place and size >= BLOB_BYTES else b""
            for place, (frame, size) in enumerate(zip(frames, sizes, strict=True))
        ]
        for place, (frame, blob_id) in enumerate(zip(frames, ids, strict=True)):
            if not blob_id or not self._is_blob(blob_id, ids.count(blob_id)):
                kept.append(frame)
                continue
            blob = self._blobs.get(blob_id)
            if blob is None:
                blob = self._blobs[blob_id] = _Blob()
                to_put.append((blob_id, frame))
            blob.content = frame
            blob.task_count += 1
            refs.append(lane_pb2.BlobRef(place=place, blob_id=blob_id, byte_count=sizes[place]))
        return Split(kept, refs, to_put)

    def done(self, refs: Sequence[lane_pb2.BlobRef]) -> None:
        """A task is done that names these; contents that no other names are let go."""
        for ref in refs:
            blob = self._blobs[ref.blob_id]
            blob.task_count -= 1
            if blob.task_count == 0:
                blob.content = None

    def start_again(self) -> list[tuple[bytes, Content]]:
        """The lane may have forgotten all: what is to be put again for the tasks that are not done."""
        self._blobs = {blob_id: blob for blob_id, blob in self._blobs.items() if blob.task_count}
        return [(blob_id, blob.content) for blob_id, blob in self._blobs.items() if blob.content is not None]

    def _is_blob(self, blob_id: bytes, count: int) -> bool:
        if blob_id in self._blobs or blob_id in self._seen or count > 1:
            return True
        if len(self._seen) >= MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[blob_id] = None
        return False


def digest(content: Content, digests: Digests) -> bytes:
    """The hash of a frame, computed once for each object in `digests`."""
    key = id(content.obj if isinstance(content, memoryview) else content)
    known = digests.get(key)
    if known is None:
        known = digests[key] = xxhash.xxh3_128_digest(content)
    return known
