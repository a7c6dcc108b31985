"""Programs that measure QuakeGrid against its targets, and against the plain engine."""

import os

from quakegrid import grpc_settings

grpc_settings.tell(os.environ)  # clients of a benchmark wait for sockets as drivers do
