"""The Outputs service: decode, call, encode."""

from __future__ import annotations

import grpc

from quakegrid.api.v1 import outputs_pb2 as pb
from quakegrid.api.v1 import outputs_pb2_grpc
from services.dbserver import job_rows, pages
from services.dbserver.database import Readers

OUTPUTS_PAGE = pages.PageSize(default=1000, largest=1000)


class OutputsServicer(outputs_pb2_grpc.OutputsServicer):
    """Answers calls about outputs."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def ListOutputs(  # noqa: N802  named in the proto
        self, request: pb.ListOutputsRequest, _context: grpc.ServicerContext
    ) -> pb.ListOutputsResponse:
        """A page of a job's outputs, by id."""
        session = self._readers.session()
        job_rows.get_row(session, request.job_id)
        after = pages.parse_token(request.page_token, start=0)
        size = OUTPUTS_PAGE.clamp(request.page_size)
        query = "SELECT * FROM output WHERE oq_job_id=?x AND id > ?x ORDER BY id LIMIT ?x"
        outputs = [
            pb.Output(
                id=row["id"],
                job_id=row["oq_job_id"],
                display_name=row["display_name"],
                ds_key=row["ds_key"],
                size_mb=row["size_mb"],
            )
            for row in session.query(query, request.job_id, after, size + 1)
        ]
        next_page_token = str(outputs[size - 1].id) if len(outputs) > size else ""
        return pb.ListOutputsResponse(outputs=outputs[:size], next_page_token=next_page_token)
