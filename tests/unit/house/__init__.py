"""Unit tests of the rules of this project itself: imports, documents, tools."""
