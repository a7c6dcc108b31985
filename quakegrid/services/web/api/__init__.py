"""Upstream's routes, as QGIS and scripts know them.

`calculations.py` has `/v1/calc/…`, `running.py` what takes inputs, `own_files.py` says which paths it takes,
`results.py` has what comes from datastores, `tags.py` the tags,
`server_facts.py` what is asked of the server itself; `answers.py` shapes rows.
"""
