"""The engine's tasks on a lane.

    driver   process.py > starmaps.py > engine_task.dump_task        > lane
    worker   lane > engine_task.EngineSetup > worker_process.py      before the first task
             lane > engine_task.EngineTask > worker_process.py > the engine's `safely_call`

`job_workers.py` and `cluster_master.py` stand in for upstream's control of workers.
"""
