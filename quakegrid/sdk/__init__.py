"""The cluster for any Python function: `Cluster`, `LocalCluster` and their executors."""
