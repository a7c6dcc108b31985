"""The Tags service: decode, call, encode."""

from __future__ import annotations

import itertools

import grpc

from quakegrid.api.v1 import tags_pb2, tags_pb2_grpc
from quakegrid.services.dbserver.jobs import field_checks, pages
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs import tags as job_tags
from quakegrid.services.dbserver.jobs.messages import encode_text
from quakegrid.services.dbserver.rpc import call_limits
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport import callers

TAGS_PAGE = pages.PageSize(default=1000, largest=1000)
# Jobs of all tags of a page together; a page ends before the tag that would exceed it.
MAX_PAGE_JOBS = 1_000_000


class TagsServicer(tags_pb2_grpc.TagsServicer):
    """Answers calls about tags."""

    def __init__(self, readers: Readers, writer: Writer) -> None:
        self._readers = readers
        self._writer = writer

    def ListTags(  # noqa: N802  named in the proto
        self, request: tags_pb2.ListTagsRequest, context: grpc.ServicerContext
    ) -> tags_pb2.ListTagsResponse:
        """A page of tags, by name; the page token is the last name."""
        session = self._readers.session(limits=call_limits.of_call(context))
        condition = "name > ?x"
        args: list[object] = [request.page_token]
        if request.job_id:
            job_rows.get_state(session, request.job_id)
            condition += " AND id IN (SELECT tag_id FROM job_tag WHERE job_id = ?x)"
            args.append(request.job_id)
        size = TAGS_PAGE.clamp(request.page_size)
        query = f"SELECT id, name FROM tag WHERE {condition} ORDER BY name LIMIT ?x"  # noqa: S608  ours
        found = session.query(query, *args, size + 1).rows
        shown = _fitting(session, found[:size])
        tags = _encode(session, shown)
        return tags_pb2.ListTagsResponse(
            tags=tags, next_page_token=tags[-1].name if len(found) > len(tags) else ""
        )

    def CreateTag(  # noqa: N802  named in the proto
        self, request: tags_pb2.CreateTagRequest, _context: grpc.ServicerContext
    ) -> tags_pb2.CreateTagResponse:
        """Create a tag."""
        field_checks.check_tag(request.name)
        self._writer.run(lambda session: job_tags.find_or_create(session, request.name))
        return tags_pb2.CreateTagResponse()

    def DeleteTag(  # noqa: N802  named in the proto
        self, request: tags_pb2.DeleteTagRequest, _context: grpc.ServicerContext
    ) -> tags_pb2.DeleteTagResponse:
        """Remove a tag, first from its jobs, some at a time: no other write waits for all of them."""
        while self._writer.run(lambda session: job_tags.take_from_some(session, request.name)):
            pass
        self._writer.run(lambda session: job_tags.delete(session, request.name))
        return tags_pb2.DeleteTagResponse()

    def AddTag(  # noqa: N802  named in the proto
        self, request: tags_pb2.AddTagRequest, _context: grpc.ServicerContext
    ) -> tags_pb2.AddTagResponse:
        """Give a job a tag."""
        field_checks.check_tag(request.name)

        asker = callers.asking_owner(request.user_name) or None

        def add(session: SqlSession) -> None:
            job_rows.check_owner(session, request.job_id, asker)
            tag_id = job_tags.find_or_create(session, request.name)
            insert = "INSERT OR IGNORE INTO job_tag (job_id, tag_id) VALUES (?x, ?x)"
            session.execute(insert, request.job_id, tag_id)

        self._writer.run(add)
        return tags_pb2.AddTagResponse()

    def RemoveTag(  # noqa: N802  named in the proto
        self, request: tags_pb2.RemoveTagRequest, _context: grpc.ServicerContext
    ) -> tags_pb2.RemoveTagResponse:
        """Take a tag from a job."""
        asker = callers.asking_owner(request.user_name) or None

        def remove(session: SqlSession) -> None:
            if asker is not None:
                job_rows.check_owner(session, request.job_id, asker)
            tag_id = job_tags.find_id(session, request.name)
            if tag_id is not None:
                job_tags.remove(session, request.job_id, tag_id)

        self._writer.run(remove)
        return tags_pb2.RemoveTagResponse()

    def PreferJob(  # noqa: N802  named in the proto
        self, request: tags_pb2.PreferJobRequest, _context: grpc.ServicerContext
    ) -> tags_pb2.PreferJobResponse:
        """Make a job the preferred one of a tag, or none."""
        field_checks.check_tag(request.name)
        asker = callers.asking_owner(request.user_name) or None

        def prefer(session: SqlSession) -> None:
            if not request.job_id:
                tag_id = job_tags.find_id(session, request.name)
                if tag_id is not None:
                    job_tags.unset_preferred(session, tag_id)
                return
            job_rows.check_owner(session, request.job_id, asker)
            job_tags.prefer(session, request.job_id, job_tags.find_or_create(session, request.name))

        self._writer.run(prefer)
        return tags_pb2.PreferJobResponse()


def _fitting(session: SqlSession, tags: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
    """The first tags, at least one, that have not too many jobs together."""
    query = "SELECT tag_id, count(*) FROM job_tag WHERE tag_id IN (?X) GROUP BY tag_id"
    counts: dict[int, int] = dict(session.query(query, [tag_id for tag_id, _ in tags]).rows)
    sums = itertools.accumulate(counts.get(tag_id, 0) for tag_id, _ in tags)
    fitting_count = sum(job_count <= MAX_PAGE_JOBS for job_count in sums)
    return tags[: max(fitting_count, 1)]


def _encode(session: SqlSession, tags: tuple[tuple[int, str], ...]) -> list[tags_pb2.Tag]:
    """The tags with the jobs of all of them, read at once."""
    found = {tag_id: tags_pb2.Tag(name=encode_text(name)) for tag_id, name in tags}
    query = "SELECT tag_id, job_id, is_preferred FROM job_tag WHERE tag_id IN (?X) ORDER BY job_id"
    for tag_id, job_id, is_preferred in session.query(query, list(found)).rows:
        tag = found[tag_id]
        tag.job_ids.append(job_id)
        if is_preferred:
            tag.preferred_job_id = job_id
    return list(found.values())
