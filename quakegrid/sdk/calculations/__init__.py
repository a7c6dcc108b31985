"""Calculations of the engine from Python: `cluster.run("job.ini")`, on the master or from a desk.

    Calculations ──► places: by the agent of this machine, or by the web service of the master
         │
         └──► ClusterJob ──► tables: arrays of a datastore as pandas' DataFrame

`calculations.py` is the way in; `awaited.py` has the same for `await`.
"""
