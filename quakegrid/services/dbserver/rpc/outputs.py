"""The Outputs service: decode, call, encode."""

from __future__ import annotations

import grpc

from quakegrid.api.v1 import outputs_pb2, outputs_pb2_grpc
from quakegrid.jobs.engine_values import RowValue
from quakegrid.services.dbserver.jobs import outputs as job_outputs
from quakegrid.services.dbserver.jobs import pages
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.columns import LONGEST_LISTED, cut
from quakegrid.services.dbserver.jobs.messages import encode_real, encode_text
from quakegrid.services.dbserver.rpc import call_limits
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.idempotence import Requests

OUTPUTS_PAGE = pages.PageSize(default=1000, largest=1000)
# Rows of older databases may hold texts of any length.
_COLUMNS = ", ".join(
    [
        "id, oq_job_id, size_mb",
        *(f"{cut(name, LONGEST_LISTED)} AS {name}" for name in ("display_name", "ds_key")),
    ]
)


class OutputsServicer(outputs_pb2_grpc.OutputsServicer):
    """Answers calls about outputs."""

    def __init__(self, readers: Readers, requests: Requests) -> None:
        self._readers = readers
        self._requests = requests

    def ListOutputs(  # noqa: N802  named in the proto
        self, request: outputs_pb2.ListOutputsRequest, context: grpc.ServicerContext
    ) -> outputs_pb2.ListOutputsResponse:
        """A page of a job's outputs, by id."""
        session = self._readers.session(limits=call_limits.of_call(context))
        job_rows.get_state(session, request.job_id)
        after = pages.parse_token(request.page_token, start=0)
        size = OUTPUTS_PAGE.clamp(request.page_size)
        query = f"SELECT {_COLUMNS} FROM output WHERE oq_job_id=?x AND id > ?x ORDER BY id LIMIT ?x"  # noqa: S608  ours
        outputs = [_encode(row) for row in session.query(query, request.job_id, after, size + 1)]
        next_page_token = str(outputs[size - 1].id) if len(outputs) > size else ""
        return outputs_pb2.ListOutputsResponse(outputs=outputs[:size], next_page_token=next_page_token)

    def GetOutput(  # noqa: N802  named in the proto
        self, request: outputs_pb2.GetOutputRequest, context: grpc.ServicerContext
    ) -> outputs_pb2.GetOutputResponse:
        """One output."""
        query = f"SELECT {_COLUMNS} FROM output WHERE id=?x"  # noqa: S608  ours
        row = self._readers.session(limits=call_limits.of_call(context)).one(
            f"there is no output {request.output_id}", query, request.output_id
        )
        return outputs_pb2.GetOutputResponse(output=_encode(row))

    def RegisterOutputs(  # noqa: N802  named in the proto
        self, request: outputs_pb2.RegisterOutputsRequest, _context: grpc.ServicerContext
    ) -> outputs_pb2.RegisterOutputsResponse:
        """Add outputs to a job, once for each request id."""

        def register(session: SqlSession) -> bytes:
            job_rows.get_state(session, request.job_id)
            last_id = session.query("SELECT coalesce(max(id), 0) FROM output").rows[0][0]
            rows = [
                [output.ds_key, output.display_name, output.size_mb if output.HasField("size_mb") else None]
                for output in request.outputs
            ]
            job_outputs.register(session, request.job_id, rows, request.datastore_size_mb)
            query = f"SELECT {_COLUMNS} FROM output WHERE id > ?x ORDER BY id"  # noqa: S608  ours
            stored = session.query(query, last_id)
            return outputs_pb2.RegisterOutputsResponse(outputs=map(_encode, stored)).SerializeToString()

        answer = self._requests.run_once(request.request_id, "RegisterOutputs", register)
        return outputs_pb2.RegisterOutputsResponse.FromString(answer.result)


def _encode(row: RowValue) -> outputs_pb2.Output:
    return outputs_pb2.Output(
        id=row["id"],
        job_id=row["oq_job_id"],
        display_name=encode_text(row["display_name"]),
        ds_key=encode_text(row["ds_key"]),
        size_mb=encode_real(row["size_mb"]),
    )
