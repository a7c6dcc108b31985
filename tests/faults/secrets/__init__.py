"""Code in jobs that looks for secrets of the cluster, and acts as somebody else."""
