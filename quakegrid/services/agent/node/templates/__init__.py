"""The agent's side of its template processes: start, orders, reports, silence.

    templates.py --events--> rules/lineage.py (decides) --actions--> links.py --> link.py (one process each)
    silent.py: children of a template that does not answer; code_stamps.py: whether the code on disk changed

Read `templates.py` first.
"""
