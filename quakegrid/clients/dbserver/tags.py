"""Client of the dbserver's tags: names that people give to groups of jobs."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.api.v1 import tags_pb2, tags_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.row_ids import checked


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, the jobs that have it, and the preferred one of them."""

    name: str
    job_ids: tuple[int, ...]
    preferred_job_id: int | None


class TagsClient:
    """Tags over a connection to the dbserver, with its errors; all calls can be repeated.

    Args:
        database: the dbserver.
        user_name: whose jobs may be changed, if a service asks for a person; empty for everybody's.
    """

    def __init__(self, database: DbClient, user_name: str = "") -> None:
        self._connection, self._user_name = database.connection, user_name
        self._stub = tags_pb2_grpc.TagsStub(database.connection.channel)

    def list_tags(self, job_id: int = 0) -> list[Tag]:
        """All tags (of a job), by name."""
        tags: list[Tag] = []
        request = tags_pb2.ListTagsRequest(job_id=checked(job_id))
        while True:
            response = self._connection.call(self._stub.ListTags, request)
            tags.extend(map(_decode, response.tags))
            request.page_token = response.next_page_token
            if not response.next_page_token:
                return tags

    def create(self, name: str) -> None:
        """Create a tag that no job has yet."""
        self._connection.call(self._stub.CreateTag, tags_pb2.CreateTagRequest(name=name))

    def delete(self, name: str) -> None:
        """Take a tag from all jobs and remove it."""
        self._connection.call(self._stub.DeleteTag, tags_pb2.DeleteTagRequest(name=name))

    def add(self, job_id: int, name: str) -> None:
        """Give a job a tag, which is created if need be."""
        self._connection.call(
            self._stub.AddTag,
            tags_pb2.AddTagRequest(job_id=checked(job_id), name=name, user_name=self._user_name),
        )

    def remove(self, job_id: int, name: str) -> None:
        """Take a tag from a job."""
        self._connection.call(
            self._stub.RemoveTag,
            tags_pb2.RemoveTagRequest(job_id=checked(job_id), name=name, user_name=self._user_name),
        )

    def prefer(self, job_id: int, name: str) -> None:
        """Make a job the preferred one of a tag; 0: none."""
        self._connection.call(
            self._stub.PreferJob,
            tags_pb2.PreferJobRequest(job_id=checked(job_id), name=name, user_name=self._user_name),
        )


def _decode(tag: tags_pb2.Tag) -> Tag:
    preferred_job_id = tag.preferred_job_id if tag.HasField("preferred_job_id") else None
    return Tag(tag.name, tuple(tag.job_ids), preferred_job_id)
