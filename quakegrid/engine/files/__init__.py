"""The engine's side of served files.

driver   starmap_files.py (when) > closures.py (which) and epochs.py (how) > quakegrid.files.library
worker   opened_files.py: what `h5py.File`, `os.path.exists` and `nrml.read` do with a file of the job
"""
