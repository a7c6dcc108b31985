"""What happened to the fleet, for people: nodes, lost workers, ended sessions.

    fleet events, fleet actions, ends ──► notable.py (which of them, in words)
                                              ──► ring.py (the last ones, numbered) ──► kept.py (a file)

`book.py` puts them together and wakes those who follow; read `notable.py` first.
"""
