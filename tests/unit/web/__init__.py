"""Unit tests of the web service."""
