"""The web service: the engine's HTTP API, and live pages, on one port; imports no engine.

    browser, QGIS, script ── HTTP ──► app ── gRPC ──► dbserver (jobs, logs, tags)
                                       ├──── gRPC ──► broker (fleet, aborts)
                                       └── socket ──► agent (a driver for what needs the engine)

`app.py` says which route goes where, `callers.py` who may ask. `api/` has upstream's routes, `live/` what
follows a cluster as it changes, `pages/` what people see, `uploads/` what they send. `engine_views.py` asks
drivers, `starts.py` starts calculations; `persons/` lets them run as people. Read `app.py` first.
"""
