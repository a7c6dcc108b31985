"""The files of a calculation: which ones a job file needs, and how they are laid out to be sent.

    job.ini ──► names ──► closure ──► parcel
                words that     files that there are,     where they lie here,
                may be names   and what these name       and their names there

Used by command lines and programs on machines without the engine, so nothing here imports it. `names.py` and
`closure.py` are pure: `parcel.py` reads the disk. Read `closure.py` first.
"""
