"""The dbserver process: jobs and logs in one SQLite file, which only this process opens.

    clients --gRPC--> rpc/ --> jobs/, logs/ --> store/ (one writer thread, many readers)
    deleted jobs --> deletions/ (marked at once, removed in small batches)
    the engine's `dbcmd` --> rpc/engine_calls.py --> engine/ --> jobs/, logs/

Read `server.py` first, then `store/writer.py`.
"""
