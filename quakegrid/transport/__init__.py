"""How processes reach each other: gRPC channels, certificates, encrypted ZeroMQ, sockets of lanes.

`credentials.py` makes all certificates from the authkey, `keys/` the keys of lanes; read them first. gRPC:
`grpc_channels.py` (channels, our errors), `renewed_channels.py` (long lives), `old_keys.py` (the end of an
authkey), `error_details.py`, `request_reads.py`, `grpc_environment.py`. ZeroMQ: `lane_sockets.py` and
`lane_names.py` over `fast_zmq.py` and `libsodium.py`. `byte_rates.py` limits output.
"""
