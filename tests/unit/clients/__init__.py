"""Unit tests of the clients."""
