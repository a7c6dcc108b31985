"""Journals of calculations: the outcomes that reached a driver, in the order of their delivery.

    driver > writer.py    appends in a thread, in batches; closes for good at the first write that fails
             records.py   the format, and how much of a file can be believed; pure
             files.py     folder, locks, sizes: which journals there are, and which are removed
    driver > job_lists.py > agent    which jobs a driver has, for whoever starts the next one

`quakegrid.engine.replay` knows what the outcomes mean, and when they may be used again. Read `records.py`
first.
"""
