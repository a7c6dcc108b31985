"""What `bench_resume.py` runs in drivers."""
