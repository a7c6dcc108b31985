"""The people whose processes run on this node: their accounts, their folders, their way to the socket.

`accounts.py` says as whom the processes of a person run; the decision is in `rules/persons.py`.
"""
