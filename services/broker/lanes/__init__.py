"""The broker's lanes: `ports.py` decides (pure), `pool.py` does it, `process.py` is one child process.

Read `ports.py` first. What a lane itself does is in `services/lane/`.
"""
