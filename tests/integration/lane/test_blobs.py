"""Large arguments that come again, through a real lane to real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quakegrid import LocalCluster
from quakegrid.blobs import shared_memory
from quakegrid.blobs.local_store import LocalBlobs
from tests.support.calls import sdk_calls

SIZE = 2_000_000


def folders(cluster: LocalCluster) -> set[Path]:
    """Blob folders of the cluster's sessions."""
    return set(shared_memory.folder(cluster.settings.state_dir).glob("*"))


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


def test_each_task_has_its_own_view_of_a_shared_argument(cluster: LocalCluster) -> None:
    """Tasks may change what they were given; nobody else sees it, and the numbers are right."""
    array = np.arange(SIZE, dtype=np.float64)

    with cluster.executor() as executor:
        first = list(executor.map(sdk_calls.double_in_place, [array] * 20))
        array[0] = 7.0
        second = executor.submit(sdk_calls.double_in_place, array).result()

    assert set(first) == {float(np.arange(SIZE).sum()) * 2}
    assert second == first[0] + 14.0


def test_blobs_are_freed_with_their_session(cluster: LocalCluster) -> None:
    """They are there while the executor is open, one file for all workers, and gone after it."""
    array = np.arange(SIZE, dtype=np.float64)
    before = folders(cluster)

    with cluster.executor() as executor:
        list(executor.map(sdk_calls.double_in_place, [array] * 20))
        (during,) = folders(cluster) - before
        contents = [path for path in during.iterdir() if not path.suffix]
    cluster.close()

    assert [path.stat().st_size for path in contents if path.exists()] in ([], [array.nbytes])
    assert folders(cluster) == before


def test_lane_asks_the_driver_for_what_is_not_on_the_node(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose node lacks a file gets the content all the same, once."""
    put = LocalBlobs.put

    def put_and_lose(store: LocalBlobs, blob_id: bytes, content: bytes | memoryview) -> bool:
        is_put = put(store, blob_id, content)
        store.drop(blob_id)
        return is_put

    monkeypatch.setattr(LocalBlobs, "put", put_and_lose)
    array = np.arange(SIZE, dtype=np.float64)

    with cluster.executor() as executor:
        executor.submit(int).result()  # now there are workers, and their folder
        sums = set(executor.map(sdk_calls.double_in_place, [array] * 20))

    assert sums == {float(np.arange(SIZE).sum()) * 2}


def test_content_that_comes_once_leaves_no_file_behind(cluster: LocalCluster) -> None:
    """Shared memory holds what is on its way, not all that ever was."""
    before = folders(cluster)

    with cluster.executor() as executor:
        executor.submit(int).result()
        for number in range(4):
            executor.submit(sdk_calls.double_in_place, np.full(SIZE, float(number))).result()
        (during,) = folders(cluster) - before

        assert [path for path in during.iterdir() if not path.suffix] == []
