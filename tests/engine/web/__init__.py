"""The web service beside the engine's own: the table of what is compared, and clients that know neither."""
