"""Finds causes for calculations to fail or be slow: facts of nodes in, findings out.

    quakegrid doctor > visits.py > agents of all nodes > gathering.py > probes.py, control_groups.py, ...
                              > checks/ (pure: facts in, findings out)
    quakegrid workers debug > core_visits.py > core_tasks.py, a task on each core of each node

Facts are values (`facts.py`), which travel by `codec.py`. Read `visits.py` first.
"""
