"""The commands about nodes and workers: `quakegrid workers`, `abort`."""
