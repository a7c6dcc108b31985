"""Functions that tests send to workers, which import them by name."""
