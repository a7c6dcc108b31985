"""What `bench_resume.py` runs in drivers, and on executors."""
