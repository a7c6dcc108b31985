"""What the serving of files decides: which files belong to a job, blocks of a file, bytes of an epoch."""
