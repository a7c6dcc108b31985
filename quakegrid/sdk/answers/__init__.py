"""Calls of executors that were answered before: what a call is known by, and the journal that answers it.

    sender > call_journal.py  answers calls, lets equal ones wait for each other, keeps the results of others
             answers.py       finds answers by keys, and has them written
             keys.py          the key of a call; pure
             contents.py      what values are known by; pure
             code.py          what code is known by; pure
             versions.py      which code is installed, and in which version

Read `call_journal.py` first.
"""
