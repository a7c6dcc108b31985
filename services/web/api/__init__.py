"""Upstream's routes, as QGIS and scripts know them: rows of the database as JSON.

`calculations.py` has `/v1/calc/…`, `tags.py` the tags, `server_facts.py` what is asked of the server itself;
`answers.py` shapes rows.
"""
