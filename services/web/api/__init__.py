"""Upstream's routes, as QGIS and scripts know them.

`calculations.py` has `/v1/calc/…`, `results.py` what comes from datastores, `tags.py` the tags,
`server_facts.py` what is asked of the server itself; `answers.py` shapes rows.
"""
