"""Integration tests of the agent, its templates and workers."""
