"""The agent's side of its template processes: start, orders, answers, silence.

`rules/lineage.py` decides which there are. Read `templates.py` first.
"""
