"""The broker's lanes: `ports.py` decides (pure), `pool.py` does it, `process.py` is one child process.

`reports.py` passes on what lanes tell. Read `ports.py` first. What a lane itself does is in
`quakegrid/services/lane/`.
"""
