"""Whether a node fits a session: fingerprint, environment, engine version, state of a template."""
