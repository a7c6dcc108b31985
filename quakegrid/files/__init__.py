"""Files of a job, served to nodes that do not see them: epochs, their blocks, proofs of what is shared.

    driver   library.py (which files, which bytes) > server.py, a thread of its own    > lane
    worker   views.py (a file object) > block_stores.py (the node's cache) > reader.py > lane

`rules/` decides which files belong to a job and what an epoch reads. `proofs.py` tells whether a node sees
the same files as the driver. Imports nothing of the engine; `quakegrid/engine/files` does.
"""
