"""Files that people send: received within bounds, unpacked, judged, kept for their calculation, removed.

    request ── forms ──► files ── archives ──► folder ── job_files ──► the driver may read it
                                    │                       inputs: whose it is, and until when
                                    └─ names: which names files may have

`inputs.py` says where the folders are and when they go. `names.py` and `job_files.py` are pure.
"""
