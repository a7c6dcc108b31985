"""The Checksums service: decode, call, encode."""

from __future__ import annotations

import grpc

from quakegrid.api.v1 import checksums_pb2, checksums_pb2_grpc
from quakegrid.errors import NotFoundError
from quakegrid.services.dbserver.jobs import checksums, rows
from quakegrid.services.dbserver.rpc import call_limits
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.writer import Writer


class ChecksumsServicer(checksums_pb2_grpc.ChecksumsServicer):
    """Answers calls about checksums of hazards."""

    def __init__(self, readers: Readers, writer: Writer) -> None:
        self._readers = readers
        self._writer = writer

    def FindHazard(  # noqa: N802  named in the proto
        self, request: checksums_pb2.FindHazardRequest, context: grpc.ServicerContext
    ) -> checksums_pb2.FindHazardResponse:
        """The job that holds a hazard."""
        row = checksums.find_job(self._readers.session(limits=call_limits.of_call(context)), request.checksum)
        if row is None:
            raise NotFoundError(f"no complete job holds the hazard {request.checksum}")
        return checksums_pb2.FindHazardResponse(job_id=row["id"])

    def GetChecksum(  # noqa: N802  named in the proto
        self, request: checksums_pb2.GetChecksumRequest, context: grpc.ServicerContext
    ) -> checksums_pb2.GetChecksumResponse:
        """The checksum of a job's hazard."""
        session = self._readers.session(limits=call_limits.of_call(context))
        return checksums_pb2.GetChecksumResponse(checksum=checksums.of_job(session, request.job_id))

    def SetChecksum(  # noqa: N802  named in the proto
        self, request: checksums_pb2.SetChecksumRequest, _context: grpc.ServicerContext
    ) -> checksums_pb2.SetChecksumResponse:
        """Say that a job holds a hazard."""

        def write(session: SqlSession) -> None:
            rows.get_state(session, request.job_id)
            checksums.store(session, request.job_id, request.checksum)

        self._writer.run(write)
        return checksums_pb2.SetChecksumResponse()
