"""What the gRPC services of the broker share: calls of nodes, bounds of input, codes of errors."""
