"""Measures files of jobs that are served, against files that are shared: `make bench-nofs`."""
