"""A driver: the process that runs the engine's own master side of a command.

    template's fork > main.py > run_mode.py   `quakegrid run` and exports; tells of them by event_stream.py
                              > oq_mode.py    upstream's command line
    engine > seams.py > calculations.py       session, hold and signals around a calculation
                      > process.py            tasks to the lane, database calls to the dbserver
                      > commands.py           commands that upstream would run around the cluster

Read `main.py` first.
"""
