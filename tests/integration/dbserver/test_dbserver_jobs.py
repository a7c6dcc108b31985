"""The dbserver's calls on jobs: lists, changes, sharing, watching, tags and checksums."""

from __future__ import annotations

import dataclasses
import datetime as dt
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.api.v1 import (
    checksums_pb2,
    checksums_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    outputs_pb2,
    outputs_pb2_grpc,
)
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.job_watch import JobEvent, JobSnapshot, watch_jobs
from quakegrid.clients.dbserver.tags import Tag, TagsClient
from quakegrid.jobs.filters import JobFilter, JobOrder
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.transport import grpc_channels
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service


def new_job(client: DbClient, **fields: Any) -> Job:
    """A job of ada's."""
    wanted: dict[str, Any] = {
        "data_dir": "/nonexistent",
        "calculation_mode": "classical",
        "description": "demo",
        "user_name": "ada",
    }
    return client.jobs.create_job(**(wanted | fields))


def complete_job(client: DbClient, **fields: Any) -> Job:
    """A complete one."""
    return client.jobs.transition(new_job(client, **fields).id, JobState.COMPLETE)


def ids(jobs: list[Job]) -> list[int]:
    """Their ids."""
    return [job.id for job in jobs]


@pytest.fixture
def channel(dbserver: LocalDbServer) -> Iterator[grpc.Channel]:
    """A bare connection."""
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        yield channel


def test_list_jobs_filters(client: DbClient) -> None:
    """Each filter leaves out what does not fit, and they work together."""
    new_job(client, description="Zürich, 100% of 1990")
    new_job(client, calculation_mode="event_based", user_name="bob")
    new_job(client, calculation_mode="event_based", description="Bern")
    for job_id, day in ((1, 1), (2, 2), (3, 3)):
        client.call("update_job", job_id, {"start_time": dt.datetime(2026, 1, day, tzinfo=dt.UTC)})
    TagsClient(client).add(3, "paper")

    def found(**wanted: Any) -> list[int]:
        return ids(client.jobs.list_jobs(wanted=JobFilter(**wanted)))

    assert found(calculation_mode="event_based") == [3, 2]
    assert found(calculation_mode="event_based", user_name="ada") == [3]
    assert found(description_text="BERN") == [3]
    assert found(description_text="100%") == [1]
    assert found(start_min_time=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) == [3, 2]
    assert found(start_max_time=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) == [1]
    assert found(tag="paper") == [3]
    assert found(tag="none") == []


@pytest.mark.parametrize("order", JobOrder)
@pytest.mark.parametrize("is_ascending", [False, True])
def test_list_jobs_orders_join_without_gap(
    client: DbClient, channel: grpc.Channel, order: JobOrder, is_ascending: bool
) -> None:
    """In every order the pages of a list are the list, also if rows are equal or have no value."""
    for number in range(7):
        job = new_job(client, description="xyz"[number % 3], user_name="ab"[number % 2])
        if number % 3:
            client.call("create_outputs", job.id, [], float(number % 4))
        if number % 2:
            client.jobs.transition(job.id, JobState.COMPLETE)
    whole = client.jobs.list_jobs(50, order=order, is_ascending=is_ascending)

    paged: list[int] = []
    request = jobs_pb2.ListJobsRequest(
        page_size=2, order=jobs_pb2.JobOrder.Value(f"JOB_ORDER_{order.name}"), is_ascending=is_ascending
    )
    while True:
        response = jobs_pb2_grpc.JobsStub(channel).ListJobs(request)
        paged += [job.id for job in response.jobs]
        request.page_token = response.next_page_token
        if not request.page_token:
            break

    assert paged == ids(whole)
    assert sorted(paged) == list(range(1, 8))
    if order is JobOrder.DESCRIPTION:
        keys = [(job.description, job.id) for job in whole]
        assert keys == sorted(keys, reverse=not is_ascending)


def test_list_jobs_refuses_tokens_of_other_lists(client: DbClient, channel: grpc.Channel) -> None:
    """A token belongs to its order; garbage is refused in words."""
    stub = jobs_pb2_grpc.JobsStub(channel)
    for _ in range(2):
        new_job(client)
    token = stub.ListJobs(jobs_pb2.ListJobsRequest(page_size=1)).next_page_token

    for wrong in (token, "garbage", "é", "e30=", "WzAsZmFsc2UsbnVsbCwxXQ=="):
        with pytest.raises(grpc.RpcError, match="no page token of this list"):
            stub.ListJobs(jobs_pb2.ListJobsRequest(page_token=wrong, order=jobs_pb2.JOB_ORDER_SIZE))


def test_update_job_changes_what_is_given(client: DbClient) -> None:
    """Only the owner changes a job, and only what was given changes."""
    job = new_job(client)

    assert client.jobs.update_job(job.id, "ada", description="better") == dataclasses.replace(
        job, description="better"
    )
    assert client.jobs.update_job(job.id, "ada", relevant=False).relevant is False
    assert client.jobs.update_job(job.id, "ada").description == "better"
    with pytest.raises(errors.StateError, match="belongs to ada and you are bob"):
        client.jobs.update_job(job.id, "bob", description="mine")
    with pytest.raises(errors.NotFoundError):
        client.jobs.update_job(99, "ada", description="d")


def test_share_job_is_for_complete_jobs_of_one_s_own(client: DbClient) -> None:
    """Sharing can be repeated and taken back; it never ends a job that runs."""
    job, running = complete_job(client), new_job(client)

    for _ in range(2):
        assert client.jobs.share_job(job.id, "ada").state is JobState.SHARED
    for _ in range(2):
        assert client.jobs.unshare_job(job.id, "ada") == job
    for act in (client.jobs.share_job, client.jobs.unshare_job):
        with pytest.raises(errors.StateError, match="only a complete job"):
            act(running.id, "ada")
        with pytest.raises(errors.StateError, match="belongs to ada"):
            act(job.id, "bob")
        with pytest.raises(errors.NotFoundError):
            act(99, "ada")
    client.jobs.transition(running.id, JobState.FAILED)
    with pytest.raises(errors.StateError, match="is failed and cannot become shared"):
        client.jobs.share_job(running.id, "ada")


def test_delete_job_takes_effect_once(client: DbClient, channel: grpc.Channel, tmp_path: Path) -> None:
    """A repeated request id gets the first answer; files stay unless asked for."""
    job = complete_job(client, data_dir=str(tmp_path))
    datastore = Path(f"{job.ds_calc_dir}.hdf5")
    datastore.touch()
    request = jobs_pb2.DeleteJobRequest(job_id=job.id, user_name="ada", request_id="one")

    answers = [jobs_pb2_grpc.JobsStub(channel).DeleteJob(request) for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0].paths[0] == str(datastore)
    assert datastore.exists()
    assert client.jobs.list_jobs() == []


def moves(events: list[JobEvent]) -> list[tuple[int, JobState | None, JobState | None]]:
    """What happened."""
    return [(event.job_id, event.old_state, event.new_state) for event in events]


def test_watch_jobs_tells_every_change(client: DbClient) -> None:
    """A snapshot, then every change in order, whatever call made it; also while many are made."""
    old = complete_job(client)
    watcher = watch_jobs(client)

    snapshot = next(watcher)
    job = new_job(client)
    client.call("update_job", job.id, {"status": "executing"})
    client.jobs.update_job(job.id, "ada", description="no event")
    client.call("finish", job.id, "failed")
    client.call("DELETE FROM job WHERE id in (?X)", [job.id])
    client.call("delete_uncompleted_calculations", "nobody")
    client.jobs.delete_job(old.id, "ada", delete_files=False)
    events = [next(watcher) for _ in range(5)]

    assert snapshot == JobSnapshot((old,))
    assert all(isinstance(event, JobEvent) for event in events)
    assert moves([event for event in events if isinstance(event, JobEvent)]) == [
        (job.id, None, JobState.CREATED),
        (job.id, JobState.CREATED, JobState.EXECUTING),
        (job.id, JobState.EXECUTING, JobState.FAILED),
        (job.id, JobState.FAILED, None),
        (old.id, JobState.COMPLETE, None),
    ]


def test_watch_jobs_misses_nothing_under_load(dbserver: LocalDbServer, client: DbClient) -> None:
    """Watchers that start in the middle know of every job exactly once."""
    count = 100
    known: list[list[int]] = [[], [], []]

    def follow(seen: list[int]) -> None:
        with DbClient(dbserver.settings) as own:
            for change in watch_jobs(own):
                if isinstance(change, JobSnapshot):
                    seen.extend(reversed(ids(list(change.jobs))))
                elif change.old_state is None:
                    seen.append(change.job_id)
                if len(seen) >= count:
                    return

    threads = [threading.Thread(target=follow, args=(seen,)) for seen in known]
    for number in range(count):
        if number % 30 == 10:
            threads[number // 30].start() if number // 30 < len(threads) else None
        new_job(client)
    for thread in threads:
        thread.join(60)

    assert known == [list(range(1, count + 1))] * 3


def test_watch_jobs_goes_on_after_a_restart(dbserver_process: Service) -> None:
    """After kill -9 the next event comes, and no second snapshot."""
    with DbClient(dbserver_process.settings, retry_s=60) as client:
        watcher = watch_jobs(client)
        assert next(watcher) == JobSnapshot(())
        first = new_job(client)
        assert moves([next(watcher)]) == [(first.id, None, JobState.CREATED)]  # type: ignore[list-item]
        dbserver_process.stop(signal.SIGKILL)
        dbserver_process.start()
        second = new_job(client)

        event = next(watcher)

        assert isinstance(event, JobEvent)
        assert event.job == second


def test_watch_jobs_of_a_user(client: DbClient) -> None:
    """Others' jobs are left out, also when they are deleted."""
    complete_job(client)
    watcher = watch_jobs(client, "bob")

    assert next(watcher) == JobSnapshot(())
    client.jobs.delete_job(1, "ada", delete_files=False)
    job = new_job(client, user_name="bob")
    event = next(watcher)

    assert isinstance(event, JobEvent)
    assert (event.job_id, event.job) == (job.id, job)


def test_watch_jobs_that_knows_too_much_starts_again(client: DbClient, channel: grpc.Channel) -> None:
    """An event that this database does not have means that it is another one."""
    new_job(client)

    stream = jobs_pb2_grpc.JobsStub(channel).WatchJobs(jobs_pb2.WatchJobsRequest(after_event_id=77))

    assert next(stream).snapshot.is_complete
    stream.cancel()


def test_watchers_leave_room_for_calls(client: DbClient, channel: grpc.Channel) -> None:
    """Watchers have a bounded number of places."""
    stub = jobs_pb2_grpc.JobsStub(channel)
    streams = [stub.WatchJobs(jobs_pb2.WatchJobsRequest()) for _ in range(32)]
    for stream in streams:
        next(stream)

    with pytest.raises(errors.QuakeGridError, match="32 others watch"):
        next(watch_jobs(client))
    assert client.jobs.list_jobs() == []
    for stream in streams:
        stream.cancel()


def test_tags_are_given_and_taken(client: DbClient) -> None:
    """Every call can be repeated; one job of a tag is preferred."""
    tags = TagsClient(client)
    first, second = complete_job(client), complete_job(client)

    for _ in range(2):
        tags.create("empty")
        tags.add(first.id, "paper")
        tags.prefer(first.id, "paper")
        tags.prefer(second.id, "paper")
    assert tags.list_tags() == [Tag("empty", (), None), Tag("paper", (first.id, second.id), second.id)]
    assert tags.list_tags(first.id) == [Tag("paper", (first.id, second.id), second.id)]
    for _ in range(2):
        tags.prefer(0, "paper")
        tags.remove(first.id, "paper")
        tags.delete("empty")
    assert tags.list_tags() == [Tag("paper", (second.id,), None)]
    assert client.call("list_tags") == {"success": "ok", "tags": ["paper"]}


def test_only_the_owner_changes_the_tags_of_a_job(client: DbClient) -> None:
    """Where it is known who asks."""
    job = complete_job(client)
    owner, other = TagsClient(client, "ada"), TagsClient(client, "bob")
    owner.add(job.id, "paper")

    for act in (other.add, other.prefer, other.remove):
        with pytest.raises(errors.StateError, match="belongs to ada and you are bob"):
            act(job.id, "paper")

    assert owner.list_tags() == [Tag("paper", (job.id,), None)]
    owner.prefer(job.id, "paper")
    owner.remove(job.id, "paper")
    assert owner.list_tags(job.id) == []


def test_tags_refuse_what_makes_no_sense(client: DbClient) -> None:
    """Unknown jobs and empty names."""
    tags = TagsClient(client)

    for act in (tags.add, tags.prefer):
        with pytest.raises(errors.NotFoundError, match="no job 99"):
            act(99, "paper")
        with pytest.raises(errors.UsageError, match="needs a name"):
            act(1, "")
    with pytest.raises(errors.NotFoundError):
        tags.list_tags(99)
    assert tags.list_tags() == []


def test_checksums_name_the_job_that_holds_a_hazard(client: DbClient, channel: grpc.Channel) -> None:
    """The last job that says so, once it is complete."""
    stub = checksums_pb2_grpc.ChecksumsStub(channel)
    first, second = complete_job(client), new_job(client)
    find = checksums_pb2.FindHazardRequest(checksum=4_000_000_000)

    with pytest.raises(grpc.RpcError, match="no complete job holds"):
        stub.FindHazard(find)
    for job in (first, first, second):
        stub.SetChecksum(checksums_pb2.SetChecksumRequest(job_id=job.id, checksum=4_000_000_000))
    with pytest.raises(grpc.RpcError, match="no complete job holds"):
        stub.FindHazard(find)
    client.jobs.transition(second.id, JobState.COMPLETE)
    assert stub.FindHazard(find).job_id == second.id
    request = checksums_pb2.GetChecksumRequest(job_id=second.id)
    assert stub.GetChecksum(request).checksum == 4_000_000_000
    with pytest.raises(grpc.RpcError, match="no checksum"):
        stub.GetChecksum(checksums_pb2.GetChecksumRequest(job_id=first.id))
    with pytest.raises(grpc.RpcError, match="no job 99"):
        stub.SetChecksum(checksums_pb2.SetChecksumRequest(job_id=99, checksum=1))


def test_outputs_are_registered_once(client: DbClient, channel: grpc.Channel) -> None:
    """A repeated request id adds nothing; each output can be got."""
    stub = outputs_pb2_grpc.OutputsStub(channel)
    job = new_job(client)
    request = outputs_pb2.RegisterOutputsRequest(
        request_id="one",
        job_id=job.id,
        outputs=[
            outputs_pb2.Output(display_name="Maps", ds_key="hmaps", size_mb=2.5),
            outputs_pb2.Output(display_name="Events", ds_key="events"),
        ],
        datastore_size_mb=7,
    )

    answers = [stub.RegisterOutputs(request) for _ in range(2)]

    assert answers[0] == answers[1]
    assert client.outputs.list_outputs(job.id) == [
        client.outputs.get_output(output.id) for output in answers[0].outputs
    ]
    assert [output.size_mb for output in client.outputs.list_outputs(job.id)] == [2.5, None]
    assert client.jobs.get_job(job.id).size_mb == 7
    with pytest.raises(errors.NotFoundError, match="no output 99"):
        client.outputs.get_output(99)
    with pytest.raises(grpc.RpcError, match="no job 99"):
        stub.RegisterOutputs(outputs_pb2.RegisterOutputsRequest(request_id="two", job_id=99))


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.ABORTED])
def test_reopened_job_has_nothing_of_its_first_try(client: DbClient, state: JobState) -> None:
    """It waits for its turn again, anybody may hold it, its outputs are gone, and its log is there."""
    job = client.jobs.create_job(data_dir="/tmp", calculation_mode="c", description="d", user_name="ada")
    client.jobs.transition(job.id, JobState.EXECUTING)
    client.jobs.renew_hold(job.id, "node1/77", 60.0)
    client.call("create_outputs", job.id, [["hcurves", "Hazard Curves", 1.0]], 1.0)
    client.call("update_job_checksum", job.id, 4711)
    client.jobs.transition(job.id, state, "no more power")

    again = client.jobs.reopen(job.id, 40)

    assert (again.state, again.is_running, again.stop_time) == (JobState.SUBMITTED, True, None)
    assert client.jobs.get_job(job.id).replayed_count == again.replayed_count == 40
    assert (again.state_reason, again.size_mb, again.resume_count) == ("", None, 1)
    assert client.outputs.list_outputs(job.id) == []
    assert client.jobs.renew_hold(job.id, "node1/78", 60.0) is JobState.SUBMITTED
    client.call("update_job_checksum", job.id, 4712)
    assert [line.message for line in client.logs.list_log(job.id)] == ["no more power"]
    client.jobs.transition(job.id, JobState.FAILED)
    third = client.jobs.reopen(job.id)
    assert (third.resume_count, third.replayed_count) == (2, 0)
    client.jobs.transition(job.id, JobState.FAILED)
    with pytest.raises(errors.UsageError, match="-1 is no number of tasks"):
        client.jobs.reopen(job.id, -1)


def test_only_a_job_that_ended_badly_is_reopened(client: DbClient) -> None:
    """Not one that a driver waits with, that runs, is complete or was deleted."""
    job = client.jobs.create_job(data_dir="/tmp", calculation_mode="c", description="d", user_name="ada")
    client.jobs.renew_hold(job.id, "node1/77", 60.0)
    for state in (JobState.SUBMITTED, JobState.EXECUTING, JobState.COMPLETE, JobState.DELETED):
        client.jobs.transition(job.id, state)
        with pytest.raises(errors.StateError, match=f"is {state}; only a job that failed"):
            client.jobs.reopen(job.id)


def test_job_whose_driver_died_before_it_held_it_is_reopened(client: DbClient) -> None:
    """Nobody would ever end it."""
    job = client.jobs.create_job(data_dir="/tmp", calculation_mode="c", description="d", user_name="ada")

    assert client.jobs.reopen(job.id).state is JobState.SUBMITTED
    assert client.jobs.reopen(job.id).resume_count == 2
