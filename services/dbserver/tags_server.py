"""The Tags service: decode, call, encode."""

from __future__ import annotations

import grpc

from quakegrid.api.v1 import tags_pb2 as pb
from quakegrid.api.v1 import tags_pb2_grpc
from quakegrid.errors import UsageError
from services.dbserver import job_rows, pages, tag_actions
from services.dbserver.database import Readers, Session
from services.dbserver.writer import Writer

TAGS_PAGE = pages.PageSize(default=1000, largest=1000)


class TagsServicer(tags_pb2_grpc.TagsServicer):
    """Answers calls about tags."""

    def __init__(self, readers: Readers, writer: Writer) -> None:
        self._readers = readers
        self._writer = writer

    def ListTags(  # noqa: N802  named in the proto
        self, request: pb.ListTagsRequest, _context: grpc.ServicerContext
    ) -> pb.ListTagsResponse:
        """A page of tags, by name; the page token is the last name."""
        session = self._readers.session()
        condition = "name > ?x"
        args: list[object] = [request.page_token]
        if request.job_id:
            job_rows.get_state(session, request.job_id)
            condition += " AND id IN (SELECT tag_id FROM job_tag WHERE job_id = ?x)"
            args.append(request.job_id)
        size = TAGS_PAGE.clamp(request.page_size)
        query = f"SELECT id, name FROM tag WHERE {condition} ORDER BY name LIMIT ?x"  # noqa: S608  ours
        tags = [_encode(session, *row) for row in session.query(query, *args, size + 1).rows]
        next_page_token = tags[size - 1].name if len(tags) > size else ""
        return pb.ListTagsResponse(tags=tags[:size], next_page_token=next_page_token)

    def CreateTag(  # noqa: N802  named in the proto
        self, request: pb.CreateTagRequest, _context: grpc.ServicerContext
    ) -> pb.CreateTagResponse:
        """Create a tag."""
        _check_name(request.name)
        self._writer.run(lambda session: tag_actions.tag_id_or_new(session, request.name))
        return pb.CreateTagResponse()

    def DeleteTag(  # noqa: N802  named in the proto
        self, request: pb.DeleteTagRequest, _context: grpc.ServicerContext
    ) -> pb.DeleteTagResponse:
        """Remove a tag."""
        self._writer.run(lambda session: tag_actions.delete_tag(session, request.name))
        return pb.DeleteTagResponse()

    def AddTag(  # noqa: N802  named in the proto
        self, request: pb.AddTagRequest, _context: grpc.ServicerContext
    ) -> pb.AddTagResponse:
        """Give a job a tag."""
        _check_name(request.name)

        def add(session: Session) -> None:
            job_rows.get_state(session, request.job_id)
            tag_id = tag_actions.tag_id_or_new(session, request.name)
            insert = "INSERT OR IGNORE INTO job_tag (job_id, tag_id) VALUES (?x, ?x)"
            session.execute(insert, request.job_id, tag_id)

        self._writer.run(add)
        return pb.AddTagResponse()

    def RemoveTag(  # noqa: N802  named in the proto
        self, request: pb.RemoveTagRequest, _context: grpc.ServicerContext
    ) -> pb.RemoveTagResponse:
        """Take a tag from a job."""
        self._writer.run(
            lambda session: tag_actions.remove_tag_from_job(session, request.job_id, request.name)
        )
        return pb.RemoveTagResponse()

    def PreferJob(  # noqa: N802  named in the proto
        self, request: pb.PreferJobRequest, _context: grpc.ServicerContext
    ) -> pb.PreferJobResponse:
        """Make a job the preferred one of a tag, or none."""
        _check_name(request.name)

        def prefer(session: Session) -> None:
            if not request.job_id:
                tag_actions.unset_preferred_job_for_tag(session, request.name)
                return
            job_rows.get_state(session, request.job_id)
            tag_actions.prefer(session, request.job_id, tag_actions.tag_id_or_new(session, request.name))

        self._writer.run(prefer)
        return pb.PreferJobResponse()


def _encode(session: Session, tag_id: int, name: str) -> pb.Tag:
    rows = session.query("SELECT job_id, is_preferred FROM job_tag WHERE tag_id=?x ORDER BY job_id", tag_id)
    preferred = [row["job_id"] for row in rows if row["is_preferred"]]
    return pb.Tag(
        name=name,
        job_ids=[row["job_id"] for row in rows],
        preferred_job_id=preferred[0] if preferred else None,
    )


def _check_name(name: str) -> None:
    if not name:
        raise UsageError("a tag needs a name")
