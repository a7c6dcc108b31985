"""Unit tests of the agent, its templates and workers."""
