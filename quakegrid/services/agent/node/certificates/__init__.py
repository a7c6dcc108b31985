"""The certificate of a node that has no authkey: renewed by itself, and read again when another is there."""
