"""The agent: one a node, starts core-limited worker processes on request."""
