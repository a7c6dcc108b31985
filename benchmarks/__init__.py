"""Programs that measure QuakeGrid against its targets, and against the plain engine."""

import os

from quakegrid.transport import grpc_environment

grpc_environment.tell(os.environ)  # clients of a benchmark wait for sockets as drivers do
