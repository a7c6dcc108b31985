"""Outputs of jobs over a connection to the dbserver."""

from __future__ import annotations

from quakegrid.api.v1 import outputs_pb2, outputs_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.values import Output

PAGE_SIZE = 1000


class OutputsClient:
    """Outputs, with the errors of a `Connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = outputs_pb2_grpc.OutputsStub(connection.channel)

    def list_outputs(self, job_id: int) -> list[Output]:
        """The outputs of a job, by id."""
        outputs: list[Output] = []
        token = ""
        while True:
            request = outputs_pb2.ListOutputsRequest(
                job_id=checked(job_id), page_size=PAGE_SIZE, page_token=token
            )
            response = self._connection.call(self._stub.ListOutputs, request)
            outputs.extend(map(job_messages.decode_output, response.outputs))
            token = response.next_page_token
            if not token:
                return outputs

    def get_output(self, output_id: int) -> Output:
        """One output."""
        request = outputs_pb2.GetOutputRequest(output_id=checked(output_id, "output"))
        return job_messages.decode_output(self._connection.call(self._stub.GetOutput, request).output)
