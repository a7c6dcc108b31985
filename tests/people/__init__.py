"""Tests with real accounts, as root: services as an account with two capabilities, people as theirs.

    conftest.py --> machine.py (has the accounts of accounts.py) --starts--> namespace.py (its process 1)
    conftest.py --> cluster.py (dbserver, broker and agent on such a machine)

The machine is a mount namespace and a namespace of processes: /etc/passwd and /etc/group have the accounts
there, and everything is gone when its process 1 ends. Nothing outside is changed.
"""
