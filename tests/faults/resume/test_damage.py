"""What a full disk, a journal of another run or version, and two at once cost: never the right numbers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quakegrid.engine.replay import pins
from quakegrid.journals import files, records
from quakegrid.journals.records import DIGEST_BYTES, Record, RecordKind
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.faults.resume.test_resuming import CASE, SMALL, killed, refusal
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]
MountDisk = Callable[[int], None]


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The bytes of the journal of a calculation that nothing happens to, and what it exports."""
    folder = tmp_path_factory.mktemp("whole") / "case"
    watched = killing.start(cluster, CASE, folder, *SMALL)
    code, output = watched.finish()
    assert code == 0, output
    return watched.byte_count, folder / "exports"


@pytest.fixture
def mount_disk(cluster: Cluster) -> Iterator[MountDisk]:
    """Mounts a small disk for journals; skipped with the reason where that cannot be."""
    place = cluster.state_dir / files.FOLDER
    mounted = []

    def mount(byte_count: int) -> None:
        options = f"size={byte_count},mode={files.SHARED_MODE:o}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as exc:
            pytest.skip(f"a small disk needs mount: {exc}")
        if done.returncode != 0:
            pytest.skip(f"a small disk needs root, and the right to mount: {done.stderr}")
        mounted.append(place)

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # this process has a journal open


def change_journal(path: Path, change: Callable[[list[Record]], None]) -> None:
    """Change the records of a journal; its checksums are right."""
    found = [placed.record for placed in records.read(files.content_of(path))]
    change(found)
    data, checksum = b"", 0
    for record in found:
        parts, checksum = records.encode(record, checksum)
        data += b"".join(bytes(part) for part in parts)
    path.write_bytes(data)


def test_full_disk_costs_the_journal_and_not_the_calculation(
    cluster: Cluster, whole: tuple[int, Path], mount_disk: MountDisk, tmp_path: Path
) -> None:
    """It has the right numbers, and what fitted on the disk is used when it is killed."""
    byte_count, expected = whole
    mount_disk(byte_count // 2)
    full = "the journal of this calculation takes nothing more: "

    code, output = killing.start(cluster, CASE, tmp_path / "full", *SMALL).finish()

    assert code == 0, output
    assert full in cluster.log()
    assert find_differences(expected, tmp_path / "full" / "exports") == []

    watched = killing.start(cluster, CASE, tmp_path / "killed", *SMALL)
    is_over = lambda: watched.running.process.poll() is not None  # noqa: E731 - one line
    assert killing.wait_until_there(lambda: full in cluster.log(watched.job_id), is_over)
    watched.kill("driver")
    assert watched.finish()[0] == 1
    done = cluster.call("resume", watched.job_id)

    assert done.returncode == 0, done.stderr
    assert cluster.job(watched.job_id)["replayed_count"] >= 1
    assert find_differences(expected, tmp_path / "killed" / "exports") == []


def test_journal_of_another_engine_is_refused(
    cluster: Cluster, whole: tuple[int, Path], tmp_path: Path
) -> None:
    """With both versions; with `--anyway` all of it is computed anew."""
    watched = killed(cluster, tmp_path / "killed", 5)

    def make_older(found: list[Record]) -> None:
        place = next(place for place, record in enumerate(found) if record.kind is RecordKind.PINS)
        content = pins.decode(found[place].frames[0])
        content["version"]["openquake.engine"] = "3.20.0"
        found[place] = replace(found[place], frames=[pins.encode(content)])

    change_journal(killing.journal_of(cluster, watched.job_id), make_older)

    words = refusal(cluster, watched.job_id)
    assert "openquake.engine is 3." in words
    assert "and it was 3.20.0" in words
    done = cluster.call("resume", watched.job_id, "--anyway")
    assert done.returncode == 0, done.stderr
    assert cluster.job(watched.job_id)["replayed_count"] == 0
    assert find_differences(whole[1], tmp_path / "killed" / "exports") == []


def test_only_one_of_two_resumes_goes_on(cluster: Cluster, whole: tuple[int, Path], tmp_path: Path) -> None:
    """The other one is told why not, and disturbs nothing."""
    watched = killed(cluster, tmp_path / "killed", 2)

    both = [cluster.start("resume", watched.job_id) for _ in range(2)]
    ends = sorted(running.finish() for running in both)

    assert [code for code, _output in ends] == [0, 1], ends
    assert "is at work: its driver runs" in ends[1][1] or "no journal of job" in ends[1][1]
    job = cluster.job(watched.job_id)
    assert (job["state"], job["resume_count"]) == ("complete", 1)
    assert find_differences(whole[1], tmp_path / "killed" / "exports") == []


def test_failed_parent_says_what_need_not_be_computed_again(
    cluster: Cluster, whole: tuple[int, Path], tmp_path: Path
) -> None:
    """A calculation on top of one that was killed; resumed first, it has the right numbers."""
    watched = killed(cluster, tmp_path / "killed", 5)
    job_ini = tmp_path / "killed" / "inputs" / "job.ini"

    told = cluster.call("run", job_ini, "--hc", watched.job_id)

    words = f"need not be computed again: `quakegrid resume {watched.job_id}` completes it from there"
    assert words in told.stderr
    assert cluster.call("resume", watched.job_id).returncode == 0
    assert words not in cluster.call("run", job_ini, "--hc", watched.job_id).stderr
    assert find_differences(whole[1], tmp_path / "killed" / "exports") == []


def test_run_that_diverges_keeps_nothing_and_says_so(
    cluster: Cluster, whole: tuple[int, Path], tmp_path: Path
) -> None:
    """A journal of another calculation: its digests are others, so all is computed from the beginning."""
    watched = killed(cluster, tmp_path / "killed", 5)

    def swap_digest(found: list[Record]) -> None:
        last = max(place for place, record in enumerate(found) if record.kind is RecordKind.OUTCOME)
        found[last] = replace(found[last], digest=bytes(DIGEST_BYTES))

    change_journal(killing.journal_of(cluster, watched.job_id), swap_digest)

    done = cluster.call("resume", watched.job_id)

    assert done.returncode == 0, done.stderr
    log = cluster.log(watched.job_id)
    assert "is not the one that its journal recorded" in log
    assert "the calculation starts again from its beginning" in log
    job = cluster.job(watched.job_id)
    assert (job["state"], job["replayed_count"]) == ("complete", 0)
    assert find_differences(whole[1], tmp_path / "killed" / "exports") == []
