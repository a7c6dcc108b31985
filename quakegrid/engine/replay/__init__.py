"""Running a calculation again from its journal, after its driver has died: outcomes in their recorded order.

    run_jobs, run_calc > hooks.py > driver_journals.py   opens, pins and ends the journals of a driver's jobs
    resume_mode.py                                       a driver that runs jobs of an earlier one again
    Starmaps > job_journal.py    one job: what is recorded is answered, what is new is recorded
               ordered.py        which submission gets which outcome, and when that is not so any more; pure
               digests.py        what a submission is known by
               pins.py           what must be equal to use a journal: inputs, versions, settings, hash seed

Master and tasks read much from files, and not from the arguments of tasks. So an outcome is never found by
what was asked: the engine's master side runs again and gets the same outcomes in the same order. A digest
only checks that it asks for the same. Read `ordered.py` first.
"""
