"""The bridge to openquake.engine 3.23 to 3.26, which stays unmodified. Importing from it imports the engine.

    template   preload.py > seams.py          replaces attributes of the engine, in three tables
      forks drivers: driver/main.py           the engine's own master side of a command
      forks workers: tasks/engine_task.py     the engine's tasks, as a session's lane brings them
    both       this_process.py                what replaced attributes call: DriverProcess or WorkerProcess
               database/dbcmd.py              the engine's database calls, answered by the dbserver

Only the agent's template imports this package. Read `seams.py` first.
"""
