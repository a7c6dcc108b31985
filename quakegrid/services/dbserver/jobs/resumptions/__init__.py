"""Jobs that run again under their id, after they have failed or were aborted."""
