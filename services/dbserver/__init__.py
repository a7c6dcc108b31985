"""The process that owns the job and log database."""
