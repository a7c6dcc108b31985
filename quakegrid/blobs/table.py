"""Which frames of a session's tasks travel once to each node instead of with each task.

Contents are known by their hash. A large frame becomes a blob, which tasks name, at once if the driver's own
node has room for it. Otherwise it becomes one when it comes again: the first time it goes with its task, the
second time it is put to the lane. Does not depend on sockets.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import xxhash

from quakegrid.wire.v1 import lane_pb2

# Below this, asking for a blob costs more than sending it again.
BLOB_BYTES = 256 << 10
# A blob is named by the xxh3_128 hash of its content.
BLOB_ID_BYTES = 16
# How many contents are remembered, to recognise one that comes again.
MAX_SEEN = 10_000

Content = bytes | memoryview
# Hashes of the objects behind frames, by their ids; valid while the objects live and do not change.
Digests = dict[int, bytes]


class NodeStore(Protocol):
    """Keeps contents on the driver's own node; see `LocalBlobs`."""

    def has(self, blob_id: bytes) -> bool:
        """Whether a content is still there."""

    def put(self, blob_id: bytes, content: Content) -> bool:
        """Take in a content, if there is room."""

    def drop(self, blob_id: bytes) -> None:
        """Free a content."""


@dataclass(slots=True)
class _Blob:
    """A blob; its content stays here while a task that names it is not done.

    It is on the driver's node if `is_local`, else with the lane. A blob that never came again is let go with
    its task.
    """

    is_local: bool
    content: Content | None = None
    task_count: int = 0
    has_come_again: bool = False


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
        self.store: NodeStore | None = None

    def is_known(self, blob_id: bytes) -> bool:
        """Whether this content need not travel again."""
        return blob_id in self._blobs

    def split(self, frames: Sequence[Content], digests: Digests) -> Split:
        """Take the blobs out of a payload; `done` must follow for the blobs that it names."""
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
        counts = collections.Counter(ids)
        for place, (frame, blob_id) in enumerate(zip(frames, ids, strict=True)):
            blob = self._admit(blob_id, frame, counts[blob_id], to_put) if blob_id else None
            if blob is None:
                kept.append(frame)
                continue
            blob.content = frame
            blob.task_count += 1
            refs.append(lane_pb2.BlobRef(place=place, blob_id=blob_id, byte_count=sizes[place]))
        return Split(kept, refs, to_put)

    def done(self, refs: Sequence[lane_pb2.BlobRef]) -> None:
        """A task that names these blobs is done; contents that no other task names are let go."""
        for ref in refs:
            blob = self._blobs[ref.blob_id]
            blob.task_count -= 1
            if blob.task_count == 0:
                blob.content = None
                if blob.is_local and not blob.has_come_again:
                    self._drop(ref.blob_id)

    def content(self, blob_id: bytes) -> Content | None:
        """The content of a blob that the lane asks for; None when no open task names it."""
        blob = self._blobs.get(blob_id)
        return blob.content if blob else None

    def start_again(self) -> list[tuple[bytes, Content]]:
        """The lane may have forgotten all blobs: those to be put again for the tasks that are not done."""
        self._blobs = {
            blob_id: blob for blob_id, blob in self._blobs.items() if blob.task_count or blob.is_local
        }
        return [
            (blob_id, blob.content)
            for blob_id, blob in self._blobs.items()
            if blob.content is not None and not blob.is_local
        ]

    def _admit(
        self, blob_id: bytes, frame: Content, count: int, to_put: list[tuple[bytes, Content]]
    ) -> _Blob | None:
        """The blob that a frame is, or becomes; None when the frame goes with its task."""
        has_come_again = self._see(blob_id) or count > 1
        blob = self._blobs.get(blob_id)
        if blob is None:
            is_local = self._put_local(blob_id, frame)
            if not is_local and not has_come_again:
                return None
            blob = self._blobs[blob_id] = _Blob(is_local)
            if not is_local:
                to_put.append((blob_id, frame))
        elif blob.is_local and self.store is not None and not self.store.has(blob_id):
            self._put_local(blob_id, frame)  # if in vain: the lane will ask us
        blob.has_come_again |= has_come_again
        return blob

    def _see(self, blob_id: bytes) -> bool:
        """Whether a content came before."""
        if blob_id in self._seen:
            return True
        if len(self._seen) >= MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[blob_id] = None
        return False

    def _put_local(self, blob_id: bytes, frame: Content) -> bool:
        if self.store is None:
            return False
        if self.store.put(blob_id, frame):
            return True
        idle = [key for key, blob in self._blobs.items() if blob.is_local and not blob.task_count]
        for key in idle:
            self._drop(key)
        return bool(idle) and self.store.put(blob_id, frame)

    def _drop(self, blob_id: bytes) -> None:
        del self._blobs[blob_id]
        if self.store is not None:
            self.store.drop(blob_id)


def digest(content: Content, digests: Digests) -> bytes:
    """The hash of a frame, computed once for each object in `digests`."""
    key = id(content.obj if isinstance(content, memoryview) else content)
    known = digests.get(key)
    if known is None:
        known = digests[key] = xxhash.xxh3_128_digest(content)
    return known
