"""QuakeGrid: OpenQuake calculations on many machines, without ssh and without a scheduler."""

import os

# gRPC would print a line for every refused handshake; our own errors say it once, in words.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

__version__ = "0.1.0"
