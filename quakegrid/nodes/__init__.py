"""Whether a node fits a session: fingerprint, environment, engine version, state of a template.

`fingerprint.py` says how two nodes differ, `environment.py` and `engine_version.py` what this one has. Also
here is what agents tell of their processes: `template_state.py`, and `worker_ends.py` with its codec.
"""
