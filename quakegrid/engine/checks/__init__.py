"""Looking at a calculation before it runs: the engine reads all its inputs, and computes nothing.

    reading.py     lets the engine read inputs, without a job and without a database
    job_check.py   what `quakegrid check` tells; in a driver, or in a process of its own (`__main__.py`)

Start with `job_check.py`.
"""
