"""`openquake.cfg`: `config.py` has the values and reads the files; start there.

`reader.py` merges the files, `sections.py` has keys and defaults (`agent_limits.py` those of one node),
`conversions.py` what is allowed, `names.py` finds misspelled keys, `reference.py` writes the page of all.
`authkeys.py` judges keys, `hosts.py` addresses; `installation.py` finds an installed cluster;
`lane_secrets.py` keeps what the keys of lanes are made of.
"""
