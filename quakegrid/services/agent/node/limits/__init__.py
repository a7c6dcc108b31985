"""The memory of the node and its workers: how much is used, and the limits of workers."""
