"""How processes reach each other: gRPC channels, certificates, encrypted ZeroMQ, sockets of lanes."""
