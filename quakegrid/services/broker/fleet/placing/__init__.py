"""Placement: how many cores each session has, and which workers start and end for that. Pure.

    placement.py --> targets.py --> claims.py --> shares.py: how many cores, of persons and of their sessions
                 --> turns.py: who comes first where there are too few
                 --> limits.py: how many cores one person may have
                 --> kinds.py: where each session may have them
                 --> drains.py, openings.py: which workers end, and where others start
                 --> unfit.py: sessions that no node fits

Every part costs a few steps for each session, each node with free cores and each worker that starts or ends;
none looks at all nodes for each session, or at all workers for each event.
"""
