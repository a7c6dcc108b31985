"""The gRPC services of the broker: one module for each, the limits of their input, their error codes."""
