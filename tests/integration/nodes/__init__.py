"""Nodes that have certificates in place of the authkey."""
