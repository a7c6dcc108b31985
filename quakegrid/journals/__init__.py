"""Journals: outcomes that reached a driver, in the order of their delivery, and results of calls.

    driver > writer.py    appends in a thread, in batches; closes for good at the first write that fails
             records.py   the format, and how much of a file can be believed; pure
             files.py     folder, locks, sizes: which journals there are, and which are removed
             named.py     journals of calls, which programs ask for by name

`quakegrid.engine.replay` knows what the outcomes of a calculation mean, and when they may be used again;
`quakegrid.sdk.answers` the same of calls. Read `records.py` first.
"""
